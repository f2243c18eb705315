//! The whole story, as a newcomer runs it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::{Command, Output};

fn playground(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_playground")).args(arguments).output().expect("the playground runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn every_check_passes_and_nothing_is_left_behind() {
    let folder = std::env::temp_dir().join(format!("playground-test-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_playground"));
    let output = command.env("TMPDIR", &folder).output().expect("the playground runs");
    let (told, complaints) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{told}\n{complaints}");
    let closing = told.lines().last().unwrap_or_default();
    assert!(closing.ends_with(" passed, 0 failed") && !told.contains('\x1b'), "{told}");
    assert_eq!(told.matches('✓').count().to_string(), closing.split(' ').next().unwrap());
    assert_eq!(complaints, "");
    std::fs::remove_dir(&folder).expect("an empty folder");
}

#[test]
fn a_wrong_flag_is_named_and_help_says_what_happens() {
    let wrong = playground(&["--kep"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("--kep"), "{}", text(&wrong.stderr));
    let help = playground(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(text(&help.stdout).contains("--keep"), "{}", text(&help.stdout));
}
