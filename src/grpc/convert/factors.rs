//! Proto ↔ domain, for second factors.

use crate::{
    domain::{field::FieldViolation, secret::SecretString},
    grpc::qr_code::{self, Format},
    pb::v1,
    service::{ServiceError, TotpEnrolment},
};

/// How the QR code is to be drawn.
pub(in crate::grpc) fn enroll_totp(request: v1::EnrollTotpRequest) -> Result<Format, FieldViolation> {
    let v1::EnrollTotpRequest { qr_code_format } = request;
    match v1::QrCodeFormat::try_from(qr_code_format) {
        Ok(v1::QrCodeFormat::Unspecified | v1::QrCodeFormat::Svg) => Ok(Format::Svg),
        Ok(v1::QrCodeFormat::Png) => Ok(Format::Png),
        Err(_) => {
            let text = "is no format this server knows: use QR_CODE_FORMAT_SVG or QR_CODE_FORMAT_PNG";
            Err(FieldViolation::new("qr_code_format", text))
        }
    }
}

/// What an enrolment is answered with.
pub(in crate::grpc) fn totp_enrolment(
    enrolment: &TotpEnrolment,
    format: Format,
) -> Result<v1::EnrollTotpResponse, ServiceError> {
    let TotpEnrolment { uri, secret } = enrolment;
    Ok(v1::EnrollTotpResponse {
        otpauth_uri: uri.expose().to_owned(),
        secret: secret.expose().to_owned(),
        qr_code: qr_code::draw(uri, format)?,
    })
}

/// The code as the app shows it.
pub(in crate::grpc) fn confirm_totp(request: v1::ConfirmTotpRequest) -> Result<SecretString, FieldViolation> {
    let v1::ConfirmTotpRequest { code } = request;
    if code.trim().is_empty() {
        return Err(FieldViolation::new("code", "is empty: send the six digits that the app shows"));
    }
    Ok(SecretString::new(code))
}

/// Codes as they are shown, once.
pub(in crate::grpc) fn recovery_codes(codes: &[SecretString]) -> Vec<String> {
    codes.iter().map(|code| code.expose().to_owned()).collect()
}
