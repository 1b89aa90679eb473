//! What is packaged: pages and completions that the program writes, files that the package names, units, settings and manifests that fit
//! one another. Building and installing the package itself is packaging/test, which needs a release build.

use crate::program::{program, text};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;
use yaml_rust2::{Yaml, YamlLoader};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_command_has_a_page_and_a_completion() {
    let dir = TempDir::new().expect("a directory");
    let made = program().arg("man").arg(dir.path()).output().expect("runs");
    assert!(made.status.success(), "{}", text(&made.stderr));
    let pages: BTreeSet<String> = std::fs::read_dir(dir.path())
        .expect("lists")
        .flatten()
        .map(|page| page.file_name().into_string().expect("plain"))
        .collect();
    for page in &pages {
        assert!(std::fs::read_to_string(dir.path().join(page)).expect("reads").contains("\n.TH "), "{page}");
    }
    let help = text(&program().arg("help").output().expect("runs").stdout);
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let commands: Vec<&str> = commands
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|name| !name.is_empty())
        .collect();
    assert!(commands.len() > 20, "{commands:?}");
    for command in commands.iter().filter(|name| **name != "help") {
        assert!(pages.contains(&format!("zeolite-{command}.1")), "{command}");
        for shell in ["bash", "zsh", "fish"] {
            let script = program().args(["completions", shell]).output().expect("runs");
            assert!(text(&script.stdout).contains(command), "{shell}: {command}");
        }
    }
    assert!(pages.contains("zeolite.1") && pages.contains("zeolite-backup-drill.1"), "{pages:?}");
}

fn metadata() -> toml::Table {
    let manifest: toml::Table = read("cli/Cargo.toml").parse().expect("toml");
    manifest["package"]["metadata"]["deb"].as_table().expect("there is a package").clone()
}

/// From where, and to where.
fn assets() -> Vec<(String, String)> {
    let text = |value: &toml::Value| value.as_str().expect("text").to_owned();
    let all = metadata()["assets"].as_array().expect("a list").clone();
    all.iter().map(|asset| (text(&asset[0]), text(&asset[1]))).collect()
}

#[test]
fn the_package_names_files_that_there_are() {
    for (from, to) in assets() {
        // What the build makes: the program, its pages and completions.
        if from.starts_with("../target/package/") {
            continue;
        }
        let path = root().join("cli").join(&from);
        let is_there = match from.strip_suffix("*.md") {
            Some(dir) => root().join("cli").join(dir).is_dir(),
            None => path.is_file(),
        };
        assert!(is_there, "{from} for {to}");
    }
    let to: Vec<String> =
        assets().into_iter().map(|(from, to)| format!("/{to}{}", from.rsplit('/').next().expect("a name"))).collect();
    for file in metadata()["conf-files"].as_array().expect("a list") {
        assert!(to.iter().any(|to| Some(to.as_str()) == file.as_str()), "{file}");
    }
    let unit = read("packaging/systemd/zeolite.service");
    for said in unit.lines().filter_map(|line| line.split_once('=')?.1.strip_prefix("/usr/bin/")) {
        assert!(said.starts_with("zeolite ") && to.contains(&"/usr/bin/zeolite".to_owned()), "{said}");
        assert!(said.ends_with("--config /etc/zeolite/zeolite.toml"), "{said}");
    }
    for script in ["postinst", "prerm", "postrm", "build"] {
        let path = root().join("packaging/deb").join(script);
        let shell = if script == "build" { "bash" } else { "sh" };
        assert!(Command::new(shell).arg("-n").arg(&path).status().expect("runs").success(), "{script}");
        let removes =
            read(Path::new("packaging/deb").join(script)).lines().any(|line| line.trim_start().starts_with("rm "));
        assert!(!removes, "{script} removes something");
    }
}

#[test]
fn the_settings_that_are_packaged_fit_the_units() {
    let checked =
        program().args(["--json", "config", "check", "--config"]).arg(root().join("packaging/zeolite.toml")).output();
    let checked = checked.expect("runs");
    assert_eq!(checked.status.code(), Some(0), "{}{}", text(&checked.stdout), text(&checked.stderr));
    let settings: serde_json::Value = serde_json::from_slice(&checked.stdout).expect("json");
    let socket = read("packaging/systemd/zeolite.socket");
    let listen = settings["settings"]["listen"].as_str().expect("text");
    assert!(socket.lines().any(|line| line == format!("ListenStream={listen}")), "{listen}");
    let service = read("packaging/systemd/zeolite.service");
    assert_eq!(settings["settings"]["data_dir"], "/var/lib/zeolite");
    assert!(service.contains("StateDirectory=zeolite\n") && service.contains("User=zeolite\n"));
    let postinst = read("packaging/deb/postinst");
    assert!(postinst.contains("install -d -m 0700 -o zeolite -g zeolite /var/lib/zeolite"));
}

#[test]
fn the_manifest_of_kubernetes_is_what_its_page_says() {
    let all = YamlLoader::load_from_str(&read("packaging/kubernetes/zeolite.yaml")).expect("yaml");
    let of =
        |kind: &str| all.iter().find(|one| one["kind"].as_str() == Some(kind)).unwrap_or_else(|| panic!("no {kind}"));
    let set = &of("StatefulSet")["spec"];
    let pod = &set["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!((set["replicas"].as_i64(), pod["enableServiceLinks"].as_bool()), (Some(1), Some(false)));
    assert!(pod["terminationGracePeriodSeconds"].as_i64() >= Some(60));
    assert_eq!(pod["securityContext"]["runAsNonRoot"].as_bool(), Some(true));
    assert_eq!(set["volumeClaimTemplates"][0]["spec"]["accessModes"][0].as_str(), Some("ReadWriteOncePod"));
    let named: BTreeSet<&str> =
        container["ports"].as_vec().expect("a list").iter().filter_map(|port| port["name"].as_str()).collect();
    for port in [
        &container["startupProbe"]["tcpSocket"]["port"],
        &container["livenessProbe"]["tcpSocket"]["port"],
        &container["readinessProbe"]["httpGet"]["port"],
    ] {
        assert!(port.as_str().is_some_and(|port| named.contains(port)), "{port:?}");
    }
    assert_eq!(container["readinessProbe"]["httpGet"]["path"].as_str(), Some("/healthz"));
    // Every mount is of a volume, the labels are those that are selected.
    let names = |list: &Yaml, at: fn(&Yaml) -> &Yaml| -> BTreeSet<String> {
        list.as_vec().into_iter().flatten().filter_map(|one| at(one).as_str().map(str::to_owned)).collect()
    };
    let mounts = names(&container["volumeMounts"], |mount| &mount["name"]);
    let mut volumes = names(&pod["volumes"], |volume| &volume["name"]);
    volumes.extend(names(&set["volumeClaimTemplates"], |claim| &claim["metadata"]["name"]));
    assert_eq!(mounts, volumes);
    assert_eq!(set["selector"]["matchLabels"]["app"], set["template"]["metadata"]["labels"]["app"]);
    assert_eq!(set["serviceName"], of("Service")["metadata"]["name"]);
    // The server would take its settings.
    let dir = TempDir::new().expect("a directory");
    let file = dir.path().join("zeolite.toml");
    std::fs::write(&file, of("ConfigMap")["data"]["zeolite.toml"].as_str().expect("settings")).expect("writes");
    let checked = program().args(["config", "check", "--config"]).arg(&file).output().expect("runs");
    assert_eq!(checked.status.code(), Some(0), "{}{}", text(&checked.stdout), text(&checked.stderr));
    let port = format!(":{}", container["ports"][0]["containerPort"].as_i64().expect("a port"));
    assert!(text(&checked.stdout).contains(&port));
    let page = read("docs/kubernetes.md");
    for field in ["replicas: 1", "enableServiceLinks: false", "terminationGracePeriodSeconds: 120", "ReadWriteOncePod"]
    {
        assert!(page.contains(field), "{field}");
    }
}

/// Of the first release in which ReadWriteOncePod is there for good, and of the newest that the schemas are there of.
#[test]
fn the_manifest_of_kubernetes_is_valid_by_its_schemas() {
    let validate = root().join("target/python/venv/bin/kubernetes-validate");
    assert!(validate.is_file(), "{} is needed: run python/venv, which ./test does", validate.display());
    let valid = |manifest: &Path, version: &str| {
        let run = Command::new(&validate).args(["--strict", "-k", version]).arg(manifest).output().expect("runs");
        (run.status.success(), text(&run.stderr) + &text(&run.stdout))
    };
    let manifest = root().join("packaging/kubernetes/zeolite.yaml");
    let dir = TempDir::new().expect("a directory");
    let wrong = dir.path().join("wrong.yaml");
    std::fs::write(&wrong, read(&manifest).replace("enableServiceLinks", "enableServiceLink")).expect("writes");
    for version in ["1.29.0", "1.37.0"] {
        let (is_valid, told) = valid(&manifest, version);
        assert!(is_valid, "{told}");
        for kind in ["configmap", "service", "statefulset"] {
            assert!(told.contains(&format!("{kind}/zeolite against version")), "{told}");
        }
        let (is_valid, told) = valid(&wrong, version);
        assert!(!is_valid && told.contains("enableServiceLink"), "{told}");
    }
}

#[test]
fn the_image_runs_as_nobody_in_particular_and_needs_no_shell() {
    let file = read("packaging/Dockerfile");
    let last: Vec<&str> = file.rsplit("FROM ").next().expect("a stage").lines().collect();
    assert!(last.contains(&"USER 65532:65532") && !last.iter().any(|line| line.starts_with("RUN")), "{last:?}");
    assert!(last.contains(&"ENTRYPOINT [\"/usr/bin/zeolite\"]") && last.contains(&"STOPSIGNAL SIGTERM"), "{last:?}");
    assert!(file.contains("--profile dist") && read("Cargo.toml").contains("[profile.dist]"));
}
