//! What an operator has tokens say, and what that makes of a subject's claims.
//!
//! What goes before what, the weakest first: what is said to an audience, what roles say, what follows from the user's attributes,
//! what is said of this user.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{audience::Audience, custom_claims::CustomClaims, user::Attributes};

/// A claim, and the attribute whose value it has.
pub type Mapping = BTreeMap<String, String>;

/// Tells one set of attributes from another, so that a copy of a user's which was made with one of them in mind is not taken for one
/// that was made with the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaidMark([u8; 4]);

impl SaidMark {
    /// The mark of a set: FNV-1a, the same in every version and on every machine. Operators make these sets, so that nobody looks for
    /// two with one mark.
    pub fn of(said: &BTreeSet<String>) -> Self {
        let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        let names = said.iter().flat_map(|name| (name.len() as u64).to_be_bytes().into_iter().chain(name.bytes()));
        Self(names.fold(0x811c_9dc5, step).to_be_bytes())
    }
}

/// What tokens say of a user by herself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnClaims {
    /// What is kept of the user. Of no use but to those claims that follow from it.
    pub attributes: Attributes,
    /// What administrators have tokens say of the user.
    pub claims: CustomClaims,
}

/// What tokens for an audience say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AudienceRules {
    /// What each of them says.
    pub claims: CustomClaims,
    /// What follows from the user's attributes, for this audience only.
    pub attributes: Mapping,
}

/// What an operator has tokens say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimRules {
    /// What follows from the user's attributes, for every audience.
    pub attributes: Mapping,
    /// What goes for single audiences.
    pub audiences: BTreeMap<Audience, AudienceRules>,
}

/// A token would say more than every proxy lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the custom claims are {0} bytes as JSON, {max} at most", max = CustomClaims::MAX_TOKEN_BYTES)]
pub struct TooMuchClaimed(pub usize);

/// Refuses claims that are too much for one token.
///
/// # Errors
/// If they are.
pub fn check_size(claims: &CustomClaims) -> Result<(), TooMuchClaimed> {
    let bytes = claims.bytes();
    if bytes > CustomClaims::MAX_TOKEN_BYTES { Err(TooMuchClaimed(bytes)) } else { Ok(()) }
}

impl ClaimRules {
    /// The attributes that tokens say.
    pub fn said_attributes(&self) -> BTreeSet<String> {
        let mappings = self.audiences.values().map(|rules| &rules.attributes).chain([&self.attributes]);
        mappings.flat_map(BTreeMap::values).cloned().collect()
    }

    /// What a token for `audience` says beside, of somebody whose roles say `roles`. Of two audiences that say something else by one
    /// claim, the one whose name comes later goes before.
    ///
    /// # Errors
    /// If that is too much for one token: nothing is left out in silence.
    pub fn claims(
        &self,
        audience: &[Audience],
        roles: &CustomClaims,
        own: &OwnClaims,
    ) -> Result<CustomClaims, TooMuchClaimed> {
        let addressed = || self.audiences.iter().filter(|(name, _)| audience.contains(name)).map(|(_, rules)| rules);
        let mut claims = CustomClaims::default();
        for rules in addressed() {
            claims.add(rules.claims.clone());
        }
        claims.add(roles.clone());
        for (claim, attribute) in [&self.attributes].into_iter().chain(addressed().map(|r| &r.attributes)).flatten() {
            // What is not there, or is null, leaves the claim to those before.
            if let Some(value) = own.attributes.get(attribute).filter(|value| !value.is_null()) {
                claims.set(claim, value.clone());
            }
        }
        claims.add(own.claims.clone());
        claims.drop_reserved();
        if claims.is_empty() {
            return Ok(claims);
        }
        check_size(&claims)?;
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn claims(value: Value) -> CustomClaims {
        let Value::Object(map) = value else { panic!("no object") };
        CustomClaims::new(map).unwrap()
    }

    fn attributes(value: Value) -> Attributes {
        let Value::Object(map) = value else { panic!("no object") };
        Attributes::new(map).unwrap()
    }

    fn audience(name: &str) -> Audience {
        name.to_owned().try_into().unwrap()
    }

    fn mapping(claim: &str, attribute: &str) -> Mapping {
        Mapping::from([(claim.to_owned(), attribute.to_owned())])
    }

    fn rules() -> ClaimRules {
        let said = |value, attributes| AudienceRules { claims: claims(value), attributes };
        ClaimRules {
            attributes: mapping("tenant", "tenant_id"),
            audiences: [
                (audience("billing"), said(json!({ "region": "eu", "tenant": "none" }), mapping("plan", "plan"))),
                (audience("shop"), said(json!({ "region": "shop" }), Mapping::new())),
            ]
            .into(),
        }
    }

    fn said(to: &[&str], roles: Value, kept: Value, own: Value) -> CustomClaims {
        let to: Vec<_> = to.iter().map(|name| audience(name)).collect();
        let own = OwnClaims { attributes: attributes(kept), claims: claims(own) };
        rules().claims(&to, &claims(roles), &own).unwrap()
    }

    #[test]
    fn the_user_goes_before_attributes_before_roles_before_the_audience() {
        let nothing = || json!({});
        let tenant = |roles, kept, own| said(&["billing"], roles, kept, own).get("tenant").cloned();
        assert_eq!(tenant(nothing(), nothing(), nothing()), Some(json!("none")));
        assert_eq!(tenant(json!({ "tenant": "role" }), nothing(), nothing()), Some(json!("role")));
        let kept = || json!({ "tenant_id": "kept" });
        assert_eq!(tenant(json!({ "tenant": "role" }), kept(), nothing()), Some(json!("kept")));
        assert_eq!(tenant(json!({ "tenant": "role" }), kept(), json!({ "tenant": "own" })), Some(json!("own")));
        let null = json!({ "tenant_id": null });
        assert_eq!(tenant(json!({ "tenant": "role" }), null, nothing()), Some(json!("role")), "null is not there");
        assert_eq!(tenant(nothing(), nothing(), json!({ "tenant": null })), Some(Value::Null), "said on purpose");
    }

    #[test]
    fn an_audience_hears_what_is_for_it() {
        let kept = || json!({ "plan": "gold", "tenant_id": 5.0, "secret": 1 });
        let to = |audiences: &[&str]| said(audiences, json!({}), kept(), json!({}));
        assert_eq!(to(&["vouchsafe"]), claims(json!({ "tenant": 5 })));
        assert_eq!(to(&["shop"]), claims(json!({ "tenant": 5, "region": "shop" })));
        assert_eq!(to(&["billing"]), claims(json!({ "tenant": 5, "region": "eu", "plan": "gold" })));
        let both = claims(json!({ "tenant": 5, "region": "shop", "plan": "gold" }));
        assert_eq!((to(&["billing", "shop"]), to(&["shop", "billing"])), (both.clone(), both));
    }

    #[test]
    fn what_is_too_much_for_a_token_is_refused_whole() {
        let part = |name: &str, bytes: usize| claims(json!({ name: "x".repeat(bytes) }));
        let mut roles = part("a", 4_000);
        roles.add(part("b", 4_000));
        let own = |bytes| OwnClaims { claims: part("c", bytes), ..OwnClaims::default() };
        let left = CustomClaims::MAX_TOKEN_BYTES - roles.bytes() - r#","c":"""#.len();
        assert!(ClaimRules::default().claims(&[], &roles, &own(left)).is_ok());
        let refused = ClaimRules::default().claims(&[], &roles, &own(left + 1));
        assert_eq!(refused, Err(TooMuchClaimed(CustomClaims::MAX_TOKEN_BYTES + 1)));
    }

    #[test]
    fn every_attribute_that_is_said_is_known() {
        let said: Vec<_> = rules().said_attributes().into_iter().collect();
        assert_eq!(said, ["plan", "tenant_id"]);
    }

    #[test]
    fn sets_of_attributes_have_marks_of_their_own() {
        let mark = |names: &[&str]| SaidMark::of(&names.iter().map(|&name| name.to_owned()).collect());
        let sets: [&[&str]; 6] =
            [&[], &["plan"], &["plan", "tenant_id"], &["plantenant_id"], &["plan", "tenant"], &[""]];
        for (place, set) in sets.iter().enumerate() {
            assert_eq!(sets.iter().position(|other| mark(other) == mark(set)), Some(place), "{set:?}");
        }
        // Nodes of two versions compare them: they never change.
        assert_eq!((mark(&[]).0, mark(&["plan"]).0), ([0x81, 0x1c, 0x9d, 0xc5], [0x6c, 0x11, 0x1e, 0x86]));
    }
}
