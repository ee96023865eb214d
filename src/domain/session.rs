//! Sessions: one sign-in on one device. A session is also a refresh-token family.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    audience::{Audience, Scope},
    id::{SessionId, UserId},
    refresh::Family,
    time::Timestamp,
    user::Label,
};

/// How coarse `last_used_time` is shown, so that it does not help a thief to keep within the owner's habits.
pub const LAST_USED_GRAIN: Duration = Duration::from_mins(15);

/// How long sessions live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionPolicy {
    /// A session that is not refreshed for this long ends.
    pub idle: Duration,
    /// A session ends this long after sign-in, however busy it is.
    pub absolute: Duration,
}

/// What a sign-in does that would be one session too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtLimit {
    /// Ends those that were not used for the longest time.
    EvictOldest,
    /// Is refused.
    Refuse,
}

impl AtLimit {
    /// The word in the settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EvictOldest => "evict_oldest",
            Self::Refuse => "refuse",
        }
    }
}

/// How many live sessions a user may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimit {
    /// The most, at least 1.
    pub most: u32,
    /// What happens beyond.
    pub at_limit: AtLimit,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// Its holder signed out.
    Logout,
    /// Its owner ended it from the list of sessions.
    Revoked,
    /// A superseded refresh token came back.
    Replay,
    /// Its owner signed in elsewhere and had as many sessions as may be.
    Evicted,
}

impl EndReason {
    /// The word in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::Revoked => "revoked",
            Self::Replay => "replay",
            Self::Evicted => "evicted",
        }
    }
}

/// What a sign-in fixes for the whole session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Whose session it is.
    pub user: UserId,
    /// The user's epoch when the session began. The session dies when the user's epoch moves past it.
    pub epoch: i64,
    /// The client that signed in.
    pub client_id: String,
    /// `aud` of its access tokens.
    pub audience: Vec<Audience>,
    /// `scope` of its access tokens.
    pub scope: Scope,
    /// When the user proved who they are.
    pub auth_time: Timestamp,
    /// How (RFC 8176).
    pub amr: Vec<String>,
    /// The assurance reached.
    pub acr: String,
}

/// The device a session lives on. Personal data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceInfo {
    /// The name its owner gave it.
    pub name: Label,
    /// The `user-agent` of the sign-in.
    pub user_agent: Label,
    /// The address of the sign-in.
    pub ip_address: Label,
}

/// A session as its row says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The id, the `sid` claim.
    pub id: SessionId,
    /// What sign-in fixed.
    pub grant: Grant,
    /// The device.
    pub device: DeviceInfo,
    /// When it began.
    pub create_time: Timestamp,
    /// When it was last refreshed, or began.
    pub last_used_time: Timestamp,
    /// When it ends however busy it is.
    pub absolute_expire_time: Timestamp,
    /// The refresh-token counter.
    pub family: Family,
}

impl Session {
    /// The session with a counter that may be ahead of its row's.
    #[must_use]
    pub fn advanced_to(mut self, family: Family) -> Self {
        self.family = self.family.merged(family);
        self.last_used_time = self.last_used_time.max(self.family.made_at);
        self
    }

    /// Whether the session has run out at `now`.
    pub fn is_expired(&self, policy: &SessionPolicy, now: Timestamp) -> bool {
        self.expire_time(policy) <= now
    }

    /// When the session ends unless it is used before.
    pub fn expire_time(&self, policy: &SessionPolicy) -> Timestamp {
        self.last_used_time.plus(policy.idle).min(self.absolute_expire_time)
    }
}
