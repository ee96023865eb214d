//! Passwords that a command is given: from a file, from standard input, or asked for. Never on the command line, where other
//! users of the machine can see them.

use std::{
    fs,
    io::{BufRead as _, IsTerminal as _},
    path::Path,
};

use zeroize::Zeroizing;

use super::Failure;

/// The password: from a file, from standard input, or asked for twice without echo.
pub(super) fn read(file: Option<&Path>, stdin: bool, flags: &str) -> Result<Zeroizing<String>, Failure> {
    if let Some(path) = file {
        return first_line_of(path, "password");
    }
    if stdin {
        let mut line = Zeroizing::new(String::new());
        std::io::stdin().lock().read_line(&mut line)?;
        return Ok(first_line(&line));
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure(format!("no terminal to ask for the password: use {flags}")));
    }
    let first = Zeroizing::new(rpassword::prompt_password("Password: ")?);
    let second = Zeroizing::new(rpassword::prompt_password("Password again: ")?);
    if first == second { Ok(first) } else { Err(Failure("the two passwords differ: try again".to_owned())) }
}

/// The first line of a file. `what` it holds stands in errors.
pub(super) fn first_line_of(path: &Path, what: &str) -> Result<Zeroizing<String>, Failure> {
    let text = fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(|e| Failure(format!("cannot read the {what} from {}: {e}", path.display())))?;
    Ok(first_line(&text))
}

fn first_line(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.lines().next().unwrap_or_default().to_owned())
}
