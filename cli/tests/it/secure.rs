//! Users and TLS as an operator has them: `zeolite user`, servers that are killed, refusals at the start, what the log says and what it never says.

use crate::program::{listening, program, signal, text};
use serde_json::Value;
use std::io::{BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// A server whose log is kept.
struct Guarded {
    child: Child,
    address: String,
}

fn user(file: &Path, args: &[&str]) -> Output {
    program().args(["--json", "user", "--file"]).arg(file).args(args).output().expect("the binary starts")
}

/// What a command that must succeed prints, as JSON lines.
fn told(output: &Output) -> Vec<Value> {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("json")).collect()
}

/// The limits of `reader`.
fn limits_are_said_and_lifted(file: &Path) {
    told(&user(file, &["limit", "reader", "--pins", "7", "--commits-per-s", "100"]));
    told(&user(file, &["limit", "reader", "--pins", "none", "--sessions", "2"]));
    let of_reader = |list: Vec<serde_json::Value>| list.into_iter().find(|user| user["user"] == "reader");
    let limits = of_reader(told(&user(file, &["list"]))).expect("is there")["limits"].clone();
    assert_eq!(limits, serde_json::json!({ "commits_per_s": 100, "sessions": 2 }));
    for wrong in
        [&["limit", "reader"][..], &["limit", "reader", "--pins", "x"], &["limit", "reader", "--commits-per-s", "0"]]
    {
        assert_eq!(user(file, wrong).status.code(), Some(2), "{wrong:?}");
    }
}

/// The secret of a token that was made just now, and its id.
fn token(output: &Output) -> (String, String) {
    let told = told(output);
    let field = |name: &str| told[0][name].as_str().expect("text").to_owned();
    (field("token"), field("id"))
}

impl Guarded {
    fn start(dir: &Path, settings: &[String]) -> Guarded {
        std::fs::create_dir_all(dir).expect("a directory");
        let mut child = program()
            .args(["--json", "serve", "--listen", "127.0.0.1:0", "--log", "trace", "--data"])
            .arg(dir.join("data"))
            .args(settings.iter().flat_map(|setting| ["--set", setting]))
            .stdout(Stdio::piped())
            .stderr(std::fs::File::options().create(true).append(true).open(dir.join("log")).expect("a log"))
            .spawn()
            .expect("the binary starts");
        let stdout = child.stdout.take().expect("has an output");
        let (address, _) = listening(&mut BufReader::new(stdout));
        Guarded { child, address }
    }

    fn run(&self, token: &str, args: &[&str]) -> Output {
        let mut command = self.command(args);
        command.env("ZEOLITE_TOKEN", token).output().expect("the binary starts")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = program();
        command.args(["--json", "--server", &self.address]).args(args);
        command
    }

    /// Runs a command until it ends with this code: the server takes a change in within a second or two.
    fn until(&self, token: &str, args: &[&str], code: i32) -> Output {
        loop {
            let output = self.run(token, args);
            if output.status.code() == Some(code) {
                return output;
            }
        }
    }

    fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("ends");
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // One that was killed already cannot be killed, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn users_are_made_come_in_survive_a_kill_and_are_removed() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("users.toml");
    let (admin, _) = token(&user(&file, &["add", "operator", "--role", "admin"]));
    let (reader, _) = token(&user(&file, &["add", "reader", "--role", "read", "--on", "main", "--expires", "30d"]));
    assert_eq!(user(&file, &["add", "reader", "--role", "read"]).status.code(), Some(2), "there is one already");
    let settings = [format!("auth.users_file={}", file.display())];
    let server = Guarded::start(dir.path(), &settings);
    assert_eq!(server.run(&admin, &["mode", "read-only"]).status.code(), Some(0));
    let refused = server.run(&reader, &["mode", "normal"]);
    assert_eq!(refused.status.code(), Some(4), "{}", text(&refused.stderr));
    for (wrong, says) in [("", "takes nobody without a token"), ("zlt_x", "not valid here")] {
        let refused = server.run(wrong, &["status"]);
        assert!(refused.status.code() == Some(4) && text(&refused.stderr).contains(says), "{}", text(&refused.stderr));
    }
    let (second, id) = token(&user(&file, &["token", "reader"]));
    server.until(&second, &["status"], 0);
    server.kill();

    let server = Guarded::start(dir.path(), &settings);
    for token in [&admin, &reader, &second] {
        assert_eq!(server.run(token, &["status"]).status.code(), Some(0));
    }
    let in_file = dir.path().join("token");
    std::fs::write(&in_file, format!("{reader}\n")).expect("written");
    let of_file =
        server.command(&["--token-file", in_file.to_str().expect("plain"), "check"]).output().expect("starts");
    assert!(
        text(&of_file.stdout).contains("exit_code") && of_file.status.code() != Some(2),
        "{}",
        text(&of_file.stdout)
    );
    // Without a handler this signal would end it.
    signal(&server.child, "HUP");
    told(&user(&file, &["revoke", &id]));
    server.until(&second, &["status"], 4);
    told(&user(&file, &["grant", "reader", "--role", "admin", "--on", "main"]));
    server.until(&reader, &["mode", "normal"], 0);
    limits_are_said_and_lifted(&file);
    told(&user(&file, &["remove", "reader"]));
    server.until(&reader, &["status"], 4);
    let left = told(&user(&file, &["list"]));
    assert!(left.len() == 1 && left[0]["user"] == "operator", "{left:?}");
    assert_eq!(server.run(&admin, &["pack"]).status.code(), Some(0));
    server.kill();

    let log = std::fs::read_to_string(dir.path().join("log")).expect("a log");
    for secret in [&admin, &reader, &second].map(|token| token.rsplit_once('_').expect("a token").1) {
        assert!(!log.contains(secret), "a secret is in the log");
    }
    for (of, verb, result) in [
        ("operator", "set mode", "done"),
        ("reader", "set mode", "denied"),
        ("reader", "set mode", "done"),
        ("operator", "pack", "done"),
    ] {
        let line = log.lines().find(|line| {
            line.contains("zeolite::audit")
                && line.contains(&format!("principal=\"{of}\""))
                && line.contains(&format!("verb=\"{verb}\""))
                && line.contains(&format!("result=\"{result}\""))
        });
        let line = line.unwrap_or_else(|| panic!("no line on {of}, {verb}, {result}"));
        assert!(line.contains("address=\"127.0.0.1:") && line.contains("database=\"main\""), "{line}");
    }
    assert!(log.contains("user=\"reader\" change=\"removed\""), "changes of users are told");
}

#[test]
fn other_machines_are_let_in_by_tls_and_users_or_by_a_word() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("users.toml");
    token(&user(&file, &["add", "operator", "--role", "admin"]));
    let users = format!("auth.users_file={}", file.display());
    let tls = ["tls.cert=c.pem".to_owned(), "tls.key=k.pem".to_owned()];
    let public = ["listen_publicly=true".to_owned()];
    let check = |settings: &[&[String]]| {
        let settings = settings.iter().copied().flatten().flat_map(|setting| ["--set", setting]);
        let output = program().args(["config", "check", "--listen", "0.0.0.0:0"]).args(settings).output();
        let output = output.expect("the binary starts");
        (output.status.code(), text(&output.stdout))
    };
    for (settings, lacks) in [
        (&[][..], "without encryption and without users"),
        (&[&[users.clone()][..]][..], "without encryption"),
        (&[&tls[..]][..], "nobody has to say who he is"),
    ] {
        let (code, said) = check(settings);
        assert!(code == Some(1) && said.contains(lacks) && said.contains("listen_publicly = true"), "{said}");
    }
    let client_ca = ["tls.client_ca=ca.pem".to_owned()];
    let optional = ["tls.client_required=false".to_owned()];
    let anybody = ["auth.anonymous_role=read".to_owned()];
    assert_eq!(check(&[&tls, std::slice::from_ref(&users), &anybody]).0, Some(1), "whoever proves nothing may read");
    for settings in [&[&tls[..], &[users][..]][..], &[&public[..]], &[&tls[..], &client_ca]] {
        assert_eq!(check(settings).0, Some(0), "{settings:?}: {}", check(settings).1);
    }
    assert_eq!(check(&[&tls, &client_ca, &optional]).0, Some(1), "whoever likes need not show a certificate");

    let refused = program().args(["serve", "--listen", "0.0.0.0:0", "--data"]).arg(dir.path().join("d")).output();
    let refused = refused.expect("the binary starts");
    assert!(refused.status.code() == Some(2) && text(&refused.stderr).contains("auth.users_file"));
    let mut missing = program();
    missing.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(dir.path().join("d"));
    let missing = missing.args(["--set", "auth.users_file=no-such.toml"]).output().expect("the binary starts");
    assert!(missing.status.code() == Some(2) && text(&missing.stderr).contains("zeolite user --file no-such.toml add"));
}

#[test]
fn files_that_are_named_and_not_there_are_wrong_usage_and_the_status_says_who_may_come() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("users.toml");
    let open = Guarded::start(&dir.path().join("open"), &[]);
    let status = |output: Output| told(&output).remove(0);
    let of_open = status(open.run("", &["status"]));
    assert!(of_open["users"].is_null() && of_open["anonymous_role"] == "admin", "{of_open}");
    for named in ["--token-file", "--ca", "--cert"] {
        let output = open.command(&[named, "no-such-file", "status"]).output().expect("starts");
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(2) && !said.is_empty(), "{named}: {:?} {said}", output.status.code());
    }
    let (admin, _) = token(&user(&file, &["add", "operator", "--role", "admin"]));
    let guarded = Guarded::start(&dir.path().join("guarded"), &[format!("auth.users_file={}", file.display())]);
    let of_guarded = status(guarded.run(&admin, &["status"]));
    assert!(of_guarded["users"] == 1 && of_guarded["anonymous_role"].is_null(), "{of_guarded}");
}

#[test]
fn a_token_goes_to_standard_output_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("users.toml");
    let plain = |args: &[&str]| program().args(["user", "--file"]).arg(&file).args(args).output().expect("starts");
    let made = plain(&["add", "shop", "--role", "write"]);
    let secret = text(&made.stdout).trim().to_owned();
    assert!(secret.starts_with("zlt_") && made.stderr.is_empty());
    let listed = text(&plain(&["list"]).stdout);
    let mut kept = String::new();
    std::fs::File::open(&file).expect("is there").read_to_string(&mut kept).expect("reads");
    let bare = secret.rsplit_once('_').expect("a token").1;
    assert!(listed.contains("shop") && !listed.contains(bare) && !kept.contains(bare), "{listed}");
    assert!(plain(&["add", "web", "--role", "write", "--no-token"]).stdout.is_empty());
    assert_eq!(
        program().args(["user", "list"]).current_dir(dir.path()).output().expect("starts").status.code(),
        Some(2)
    );
}
