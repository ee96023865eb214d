//! The templates that come with the program: the files beside this one. Every language has every part of every kind.

macro_rules! part {
    ($language:literal, $file:literal) => {
        (concat!($language, "/", $file), include_str!(concat!($language, "/", $file)))
    };
}

macro_rules! languages {
    ($($language:literal)+) => {
        /// Their names and what they say.
        pub(super) const ALL: &[(&str, &str)] = &[
            ("en/layout.html", include_str!("layout.html")),
            $(
                part!($language, "login_code.sms"),
                part!($language, "verify_phone.sms"),
                part!($language, "verify_email.subject"),
                part!($language, "verify_email.txt"),
                part!($language, "verify_email.html"),
                part!($language, "already_registered.subject"),
                part!($language, "already_registered.txt"),
                part!($language, "already_registered.html"),
                part!($language, "reset_password.subject"),
                part!($language, "reset_password.txt"),
                part!($language, "reset_password.html"),
                part!($language, "login_code.subject"),
                part!($language, "login_code.txt"),
                part!($language, "login_code.html"),
                part!($language, "leave_email.subject"),
                part!($language, "leave_email.txt"),
                part!($language, "leave_email.html"),
                part!($language, "adopt_email.subject"),
                part!($language, "adopt_email.txt"),
                part!($language, "adopt_email.html"),
                part!($language, "verify_phone.subject"),
                part!($language, "verify_phone.txt"),
                part!($language, "verify_phone.html"),
                part!($language, "new_device.subject"),
                part!($language, "new_device.txt"),
                part!($language, "new_device.html"),
                part!($language, "password_changed.subject"),
                part!($language, "password_changed.txt"),
                part!($language, "password_changed.html"),
                part!($language, "email_changed.subject"),
                part!($language, "email_changed.txt"),
                part!($language, "email_changed.html"),
                part!($language, "phone_changed.subject"),
                part!($language, "phone_changed.txt"),
                part!($language, "phone_changed.html"),
                part!($language, "totp_enrolled.subject"),
                part!($language, "totp_enrolled.txt"),
                part!($language, "totp_enrolled.html"),
                part!($language, "totp_removed.subject"),
                part!($language, "totp_removed.txt"),
                part!($language, "totp_removed.html"),
                part!($language, "recovery_codes_replaced.subject"),
                part!($language, "recovery_codes_replaced.txt"),
                part!($language, "recovery_codes_replaced.html"),
                part!($language, "recovery_code_used.subject"),
                part!($language, "recovery_code_used.txt"),
                part!($language, "recovery_code_used.html"),
                part!($language, "account_deleted.subject"),
                part!($language, "account_deleted.txt"),
                part!($language, "account_deleted.html"),
            )+
        ];
    };
}

languages!("en" "de");
