//! What the README promises: the tour is run, command by command, on three real hosts, and its tables are compared
//! with the program.

use std::path::{Path, PathBuf};
use std::process::Command;

use quorate_lab::{Lab, Options, releases};
use snapbox::cmd::cargo_bin;

fn readme() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap()
}

/// The text of every fenced block of a language under a heading of level two.
fn blocks(text: &str, heading: &str, language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut here = false;
    let mut open: Option<(bool, String)> = None;
    for line in text.lines() {
        match &mut open {
            Some((wanted, block)) => {
                if line == "```" {
                    if *wanted {
                        found.push(std::mem::take(block));
                    }
                    open = None;
                } else {
                    block.push_str(line);
                    block.push('\n');
                }
            }
            None => {
                if let Some(title) = line.strip_prefix("## ") {
                    here = title == heading;
                } else if let Some(fence) = line.strip_prefix("```") {
                    open = Some((here && fence == language, String::new()));
                }
            }
        }
    }
    assert!(open.is_none(), "a fence is not closed");
    found
}

/// One command of the tour, and what it prints.
struct Step {
    arguments: Vec<String>,
    expected: String,
}

fn steps(blocks: &[String]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in blocks.iter().flat_map(|block| block.lines()) {
        if let Some(command) = line.strip_prefix("$ ") {
            let arguments = command.strip_prefix("quorate ");
            let arguments = arguments.unwrap_or_else(|| panic!("the tour runs `{command}`"));
            steps.push(Step {
                arguments: arguments.split_whitespace().map(str::to_owned).collect(),
                expected: String::new(),
            });
        } else {
            let step = steps.last_mut().expect("output before the first command");
            step.expected.push_str(line);
            step.expected.push('\n');
        }
    }
    steps
}

/// What differs from run to run made equal: IDs, and who leads.
fn same_every_time(text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.trim_end().lines() {
        let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        for at in 0..words.len() {
            let word = words[at].trim_end_matches([',', '.', ')']).to_owned();
            if (12..=16).contains(&word.len()) && word.chars().all(|c| c.is_ascii_hexdigit()) {
                words[at] = words[at].replace(&word, "ID");
            } else if at >= 2 && words[at - 2..at] == ["led", "by"] {
                words[at] = "LEADER,".to_owned();
            }
        }
        lines.push(words.join(" "));
    }
    lines.join("\n") + "\n"
}

#[test]
fn the_tour_prints_what_the_readme_says() {
    if !rustix::process::getuid().is_root() {
        eprintln!("SKIPPED the_tour_prints_what_the_readme_says: its hosts take root");
        return;
    }
    let text = readme();
    let cluster = blocks(&text, "A tour of 30 seconds", "toml");
    let [cluster] = cluster.as_slice() else {
        panic!("the tour has {} cluster files", cluster.len());
    };
    let steps = steps(&blocks(&text, "A tour of 30 seconds", "console"));
    assert!(
        steps.len() >= 5,
        "the tour has only {} commands",
        steps.len()
    );

    let release = releases::ensure("3.5").unwrap();
    let lab = Lab::up(
        "readme",
        Options {
            hosts: 3,
            ..Options::default()
        },
    )
    .unwrap();
    lab.serve_releases().unwrap();

    // The README's own file, with the addresses, the release and the key of the lab.
    let parsed: toml::Table = toml::from_str(cluster).unwrap();
    let archive = parsed["etcd"]["install"]["archive"].as_str().unwrap();
    let version = parsed["etcd"]["version"].as_str().unwrap();
    let mut cluster = cluster
        .replace(
            archive,
            &format!(
                "{}/etcd-v{{version}}-linux-{{arch}}.tar.gz",
                lab.releases_url()
            ),
        )
        .replace(version, &release.version)
        .replace(
            "[ssh]\n",
            &format!(
                "[ssh]\nidentity = \"{}\"\nknown_hosts = \"{}\"\n",
                lab.identity().display(),
                lab.known_hosts().display()
            ),
        );
    let nodes = parsed["node"].as_array().unwrap();
    assert_eq!(nodes.len(), lab.hosts().len());
    for (node, host) in nodes.iter().zip(lab.hosts()) {
        let ip = node["ip"].as_str().unwrap();
        cluster = cluster.replace(&format!("\"{ip}\""), &format!("\"{}\"", host.ip));
    }

    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("cluster.toml"), cluster).unwrap();
    for step in steps {
        let output = inside(&lab, dir.path())
            .args(&step.arguments)
            .output()
            .unwrap();
        let out = String::from_utf8(output.stdout).unwrap();
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{:?}\n{out}{err}", step.arguments);
        let out = out
            .replace(&release.version, version)
            .replace(&dir.path().display().to_string(), "DIR");
        snapbox::Assert::new().eq(same_every_time(&out), same_every_time(&step.expected));
    }
    lab.down().unwrap();
}

fn inside(lab: &Lab, dir: &Path) -> Command {
    let program: PathBuf = cargo_bin!("quorate").into();
    let mut command = lab.command(program).unwrap();
    command
        .current_dir(dir)
        .env_remove("QUORATE_FILE")
        .env("NO_COLOR", "1")
        .env("XDG_STATE_HOME", dir.join("state"))
        .env("XDG_CACHE_HOME", dir.join("cache"));
    command
}

#[test]
fn the_table_of_commands_is_complete() {
    use clap::CommandFactory;
    let text = readme();
    let mut listed: Vec<String> = rows(&text, "Commands")
        .iter()
        .filter_map(|row| row.strip_prefix("| `quorate "))
        .map(|row| row.split([' ', '`']).next().unwrap_or_default().to_owned())
        .collect();
    listed.sort();
    let mut commands: Vec<String> = quorate::cli::Cli::command()
        .get_subcommands()
        .map(|command| command.get_name().to_owned())
        .filter(|name| name != "help")
        .collect();
    commands.sort();
    assert_eq!(listed, commands);
}

#[test]
fn the_table_of_exit_codes_is_that_of_the_program() {
    use clap::CommandFactory;
    use quorate::error::{BLOCKED, CHANGES, DECLINED, ERROR, INTERRUPTED, LOCKED, OK};
    let codes: Vec<u8> = rows(&readme(), "Exit codes")
        .iter()
        .filter_map(|row| row.split('|').nth(1)?.trim().parse().ok())
        .collect();
    assert_eq!(
        codes,
        [OK, ERROR, CHANGES, BLOCKED, DECLINED, LOCKED, INTERRUPTED]
    );
    let help = quorate::cli::Cli::command()
        .get_after_help()
        .unwrap()
        .to_string();
    for code in codes {
        assert!(
            help.contains(&format!(" {code} ")),
            "the help does not mention exit code {code}"
        );
    }
}

#[test]
fn links_lead_somewhere() {
    let text = readme();
    let mut count = 0;
    for link in text.split("](").skip(1) {
        let link = link.split([')', '#']).next().unwrap_or_default();
        if !link.is_empty() && !link.contains("://") {
            count += 1;
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(link);
            assert!(path.exists(), "the README links to {link}");
        }
    }
    assert!(count > 5, "only {count} links");
}

/// The lines of tables under a heading.
fn rows(text: &str, heading: &str) -> Vec<String> {
    text.lines()
        .skip_while(|line| line.strip_prefix("## ") != Some(heading))
        .skip(1)
        .take_while(|line| !line.starts_with("## "))
        .filter(|line| line.starts_with('|'))
        .map(str::to_owned)
        .collect()
}
