//! The verifier as tonic's interceptor: one rule for a whole service, in one line.

use std::sync::Arc;

use tonic::{Request, Status, service::Interceptor};

use super::{
    bearer::bearer,
    embedded::Verifier,
    principal::Principal,
    rule::{Access, Rule},
};

/// Lets calls through that satisfy a rule, with the [`Principal`] in their extensions.
///
/// ```text
/// let orders = OrdersServer::with_interceptor(orders, VerifierInterceptor::new(verifier, Rule::required().scope("orders")));
/// // and in a handler:
/// let principal = Principal::of(request.extensions());
/// ```
///
/// Interceptors are simple, and that has its price; [`VerifierLayer`](super::VerifierLayer) has none of these limits:
/// - They do not see which method is called, so one rule is for all of them.
/// - They cannot wait. A token signed by a key that is not known yet is UNAVAILABLE while the key is fetched.
/// - They see how a call begins and not how it goes on. A handler of a stream asks [`Verifier::ended`] when to end it.
#[derive(Clone, Debug)]
pub struct VerifierInterceptor {
    verifier: Verifier,
    rule: Arc<Rule>,
}

impl VerifierInterceptor {
    /// Demands the same of every call.
    pub fn new(verifier: Verifier, rule: Rule) -> Self {
        Self { verifier, rule: Arc::new(rule) }
    }
}

impl Interceptor for VerifierInterceptor {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        // One that an outer layer left speaks for another rule.
        request.extensions_mut().remove::<Principal>();
        // What is public is no less so for headers that nobody reads.
        let token = match self.rule.access {
            Access::Public => None,
            Access::Optional | Access::Required => bearer(request.metadata().as_ref())?,
        };
        if let Some(principal) = self.verifier.admit_now(token, &self.rule)? {
            request.extensions_mut().insert(principal);
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;
    use crate::verifier::testing::Surroundings;

    fn request(authorization: &[&str]) -> Request<()> {
        let mut request = Request::new(());
        for value in authorization {
            request.metadata_mut().append("authorization", value.parse().unwrap());
        }
        request
    }

    #[tokio::test]
    async fn a_call_goes_on_with_its_principal_or_not_at_all() {
        let around = Surroundings::new().await;
        let mut interceptor = VerifierInterceptor::new(around.verifier.clone(), Rule::required().scope("orders"));
        let good = format!("Bearer {}", around.token("orders", &[]));
        let admitted = interceptor.call(request(&[&good])).unwrap();
        assert!(Principal::of(admitted.extensions()).unwrap().has_scope("orders"));
        let poor = format!("Bearer {}", around.token("other", &[]));
        for (sent, code) in [
            (&[][..], Code::Unauthenticated),
            (&[&good[..], &good[..]], Code::Unauthenticated),
            (&["Bearer x"], Code::Unauthenticated),
            (&[&poor[..]], Code::PermissionDenied),
        ] {
            let refused = interceptor.call(request(sent)).unwrap_err();
            assert_eq!(refused.code(), code, "{sent:?}");
            assert!(refused.metadata().contains_key("www-authenticate"));
        }
        around.revoke();
        assert_eq!(interceptor.call(request(&[&good])).unwrap_err().code(), Code::Unauthenticated);
    }

    #[tokio::test]
    async fn a_principal_from_elsewhere_is_not_believed() {
        let around = Surroundings::new().await;
        let token = format!("Bearer {}", around.token("", &[]));
        let before =
            VerifierInterceptor::new(around.verifier.clone(), Rule::required()).call(request(&[&token])).unwrap();
        let mut later = Request::new(());
        *later.extensions_mut() = before.extensions().clone();
        assert!(Principal::of(later.extensions()).is_some());
        for rule in [Rule::public(), Rule::optional()] {
            let mut copy = Request::new(());
            *copy.extensions_mut() = later.extensions().clone();
            let admitted = VerifierInterceptor::new(around.verifier.clone(), rule).call(copy).unwrap();
            assert!(Principal::of(admitted.extensions()).is_none());
        }
    }
}
