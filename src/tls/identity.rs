//! Whom a client certificate names: the workload, by its SPIFFE id (X509-SVID §2).

use tokio_rustls::rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

use crate::domain::spiffe::SpiffeId;

/// The SPIFFE id in a certificate that was verified before. A certificate with two URIs names nobody: which of them its authority
/// looked at cannot be told (X509-SVID §2).
pub(crate) fn spiffe_id(certificate: &CertificateDer<'_>) -> Option<SpiffeId> {
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let mut names = certificate.valid_uri_names();
    match (names.next(), names.next()) {
        (Some(only), None) => SpiffeId::parse(only).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn named(uris: &[&str]) -> Option<String> {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.subject_alt_names.extend(uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())));
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        spiffe_id(certificate.der()).map(|id| id.to_string())
    }

    #[test]
    fn a_certificate_names_whom_its_one_uri_names() {
        let orders = "spiffe://example.org/orders";
        assert_eq!(named(&[orders]).as_deref(), Some(orders));
        assert_eq!(named(&[]), None);
        assert_eq!(named(&[orders, "spiffe://example.org/payments"]), None);
        assert_eq!(named(&[orders, orders]), None);
        assert_eq!(named(&["https://example.org/orders", orders]), None);
        assert_eq!(named(&["https://example.org/orders"]), None);
        assert_eq!(named(&["spiffe://example.org"]), None);
        assert_eq!(spiffe_id(&CertificateDer::from(vec![0x30, 0x80])), None);
    }
}
