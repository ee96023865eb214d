//! `vouchsafe completions`: each script names the commands, and the shells that are here take theirs.

use tokio::process::Command;

use super::harness::{Place, finish};
use crate::support::Backend;

#[tokio::test]
async fn every_shell_gets_a_script_that_it_understands() {
    let place = Place::new(Backend::Sqlite).await;
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = place.run(&["completions", shell]).await.ok();
        for word in ["serve", "healthcheck", "revoke", "jwks-url", "rotate-secret", "email-prefix", "token-stdin"] {
            assert!(script.contains(word), "{shell} does not complete {word}");
        }
        let file = place.file(shell, &script);
        // Bash is on every machine that the tests run on; of the others whichever are.
        let here = std::env::split_paths(&std::env::var_os("PATH").unwrap()).any(|folder| folder.join(shell).exists());
        if shell == "bash" || (here && matches!(shell, "zsh" | "fish")) {
            let mut check = Command::new(shell);
            check.args(["-n", &file]);
            assert_eq!(finish(check, "").await.ok(), "", "{shell}");
        }
    }
    // What bash makes of it.
    let file = place.file("bash", place.run(&["completions", "bash"]).await.ok());
    let mut complete = Command::new("bash");
    complete.args(["--norc", "-c"]).arg(format!(
        "source {file}; COMP_WORDS=(vouchsafe keys re); COMP_CWORD=2; _vouchsafe vouchsafe re keys; echo \"${{COMPREPLY[@]}}\""
    ));
    assert_eq!(finish(complete, "").await.ok(), "revoke\n");
    let mut complete = Command::new("bash");
    complete.args(["--norc", "-c"]).arg(format!(
        "source {file}; COMP_WORDS=(vouchsafe service-account rot); COMP_CWORD=2; _vouchsafe vouchsafe rot service-account; \
         echo \"${{COMPREPLY[@]}}\""
    ));
    assert_eq!(finish(complete, "").await.ok(), "rotate-secret\n");
    let refused = place.run(&["completions", "tcsh"]).await;
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    place.remove().await;
}
