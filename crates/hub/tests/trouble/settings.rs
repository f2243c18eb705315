//! Wrong flags and files: one line that names what is wrong, and exit code 2.

use std::fs;

use crate::tools::{run, text};

const GOOD: [&str; 4] =
    ["--server-addr=https://127.0.0.1:1", "--node-name=edge-1", "--serve-port=0", "--proxy-secure-port=0"];

/// Runs with these arguments, and returns the one line that it must have said. The folder is for a hub that
/// starts in spite of them.
async fn refused(args: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let root = format!("--root-dir={}", dir.path().display());
    let ended = run(&[&[root.as_str()], args].concat()).await;
    assert!(!dir.path().join("pki").exists(), "{args:?} were not checked before the start");
    let said = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(2), "{args:?}: {said}");
    assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
    assert!(said.starts_with("yurthub: ") && ended.stdout.is_empty(), "{args:?}: {said}");
    said
}

#[tokio::test]
async fn a_wrong_flag_is_named_in_one_line() {
    let cases: [(&[&str], &str); 25] = [
        (&[], "server-addr"),
        (&["--server-addr=https://a"], "node-name"),
        (&["--server-addr=https://a", "--node-name="], "node-name"),
        (&["--server-addr=https://a", "--node-name=Not_A_Name"], "Not_A_Name"),
        (&["--server-addr=", "--node-name=n"], "server-addr"),
        (&["--server-addr=http://a", "--node-name=n"], "server-addr: \"http://a\""),
        (&["--server-addr=https://a,https://b:x", "--node-name=n"], "https://b:x"),
        (&["--server-addr=https://a/path", "--node-name=n"], "https://a/path"),
        (&["--no-such-flag"], "--no-such-flag"),
        (&["stray"], "stray"),
        (&["--node-name"], "--node-name"),
        (&["--serve-port=many"], "--serve-port"),
        (&["--serve-port=70000"], "--serve-port"),
        (&["--proxy-secure-port=-1"], "--proxy-secure-port"),
        (
            &["--serve-port=9", "--proxy-secure-port=9", "--server-addr=https://a", "--node-name=n"],
            "serve-port",
        ),
        (&["--bind-proxy-address=nowhere"], "--bind-proxy-address"),
        (&["--cache-max-bytes=1GB"], "--cache-max-bytes"),
        (&["--cache-max-bytes=10", "--server-addr=https://a", "--node-name=n"], "cache-max-bytes"),
        (
            &["--hub-cert-sans=ok,not ok", "--server-addr=https://a", "--node-name=n"],
            "hub-cert-sans: \"not ok\"",
        ),
        (&["--log=warn,x=loud", "--server-addr=https://a", "--node-name=n"], "log"),
        (&["--log=verbose", "--server-addr=https://a", "--node-name=n"], "log: \"verbose\""),
        (&["--server-addr=https://a:0", "--node-name=n"], "server-addr: \"https://a:0\""),
        (&["--server-addr=https://1.2.3.4.5", "--node-name=n"], "server-addr: \"https://1.2.3.4.5\""),
        (&["--server-addr=https://-a", "--node-name=n"], "server-addr: \"https://-a\""),
        (&["--config=/no/such/file.yaml"], "/no/such/file.yaml"),
    ];
    for (args, named) in cases {
        let said = refused(args).await;
        assert!(said.contains(named), "{args:?}: {said}");
    }
}

#[tokio::test]
async fn a_wrong_key_of_the_file_is_named_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.yaml");
    let config = format!("--config={}", path.display());
    let cases = [
        ("server-adr: https://a\n", "server-adr"),
        ("server-addr: https://a\nnode-name: n\nserve-port: many\n", "serve-port"),
        ("server-addr: https://a\nnode-name: n\nserve-port: 70000\n", "serve-port"),
        ("server-addr: https://a\nnode-name: n\nbind-proxy-address: nowhere\n", "bind-proxy-address"),
        ("server-addr: https://a\nnode-name: n\ncache-max-bytes: [1]\n", "cache-max-bytes"),
        ("server-addr: https://a\nnode-name: n\nnode-name: m\n", "node-name"),
        ("server-addr: http://a\nnode-name: n\n", "server-addr"),
        ("server-addr: https://a\nnode-name: ''\n", "node-name"),
        ("config: other.yaml\n", "config"),
        ("- a list\n", "hub.yaml"),
        ("server-addr: [unfinished\n", "hub.yaml"),
        ("\u{0}\u{1}", "hub.yaml"),
    ];
    for (content, named) in cases {
        fs::write(&path, content).unwrap();
        let said = refused(&[&config]).await;
        assert!(said.contains(named), "{content:?}: {said}");
    }
    fs::write(&path, [0xff, 0xfe, 0x80]).unwrap();
    assert!(refused(&[&config]).await.contains("hub.yaml"));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(refused(&[&config]).await.contains("hub.yaml"));
}

#[tokio::test]
async fn help_names_every_flag_and_version_says_it() {
    let help = run(&["--help"]).await;
    let said = text(&help.stdout);
    assert!(help.status.success() && help.stderr.is_empty());
    let flags = [
        "config",
        "server-addr",
        "node-name",
        "root-dir",
        "disk-cache-path",
        "bind-proxy-address",
        "proxy-secure-port",
        "serve-port",
        "ca-file",
        "client-cert",
        "client-key",
        "hub-cert-sans",
        "cache-max-bytes",
        "log",
    ];
    for flag in flags {
        let at = said
            .lines()
            .position(|l| l.trim_start().starts_with(&format!("--{flag} ")))
            .unwrap_or_else(|| panic!("--{flag}: {said}"));
        let explained = said.lines().skip(at).take(2).collect::<String>();
        assert!(explained.len() > flag.len() + 30, "--{flag}: {explained}");
    }
    for number in ["10268", "10267", "/var/lib/yurthub"] {
        assert!(said.contains(number), "{number}: {said}");
    }
    let version = run(&["--version"]).await;
    assert!(version.status.success() && text(&version.stdout).starts_with("yurthub "));
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let root = format!("--root-dir={}/file/root", dir.path().display());
    let ended = run(&[&GOOD[..], &[root.as_str()]].concat()).await;
    let said = text(&ended.stderr);
    assert_eq!((ended.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("file/root"), "{said}");
}
