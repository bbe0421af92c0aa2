//! What the subcommands do.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{self, ExitCode};
use std::thread;

use quorate_lab::{Cut, Error, Host, Lab, Options, Result, clean, down, releases, setup, status};

use crate::{Command, Direction, Fault, Target, cluster_file};

pub(crate) fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Setup => list(&setup(|step| eprintln!("lab: {step}"))?),
        Command::Binaries { version } => match version {
            Some(version) => list(&[releases::ensure(&version)?]),
            None => list(&releases::available()),
        },
        Command::Up {
            foreground,
            hosts,
            password_sudo,
            lab,
        } => up(
            &lab.name,
            Options {
                hosts,
                password_sudo,
                persistent: !foreground,
            },
        )?,
        Command::Down { lab } => down(&lab.name)?,
        Command::Clean { name: Some(name) } => down(&name)?,
        Command::Clean { name: None } => {
            for name in clean()? {
                println!("removed lab {name}");
            }
        }
        Command::Status => show_status()?,
        Command::Ssh {
            lab,
            user,
            host,
            command,
        } => {
            let lab = Lab::attach(&lab.name)?;
            let mut ssh = lab.ssh(&user, lab.host(&host)?)?;
            return become_program(ssh.args(command));
        }
        Command::Exec { lab, command } => {
            let lab = Lab::attach(&lab.name)?;
            let (program, arguments) = command
                .split_first()
                .ok_or(Error::Other("give a program to run after --".to_owned()))?;
            let mut inside = lab.command(program)?;
            inside
                .args(arguments)
                .env("QUORATE_LAB_NAME", lab.name())
                .env("QUORATE_LAB_DIR", lab.dir())
                .env("QUORATE_LAB_IDENTITY", lab.identity())
                .env("QUORATE_LAB_KNOWN_HOSTS", lab.known_hosts())
                .env("QUORATE_LAB_RELEASES", lab.releases_url());
            return become_program(&mut inside);
        }
        Command::ClusterFile { lab, etcd } => {
            let version = releases::find(&etcd)?.version;
            print!(
                "{}",
                cluster_file::render(&Lab::attach(&lab.name)?, &version)
            );
        }
        Command::Fault(fault) => afflict(fault)?,
        Command::Serve { lab } => {
            let lab = Lab::attach(&lab.name)?;
            lab.serve_releases()?;
            loop {
                thread::park();
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(releases: &[releases::Release]) {
    for release in releases {
        println!("{}\t{}", release.version, release.tarball.display());
    }
}

fn up(name: &str, options: Options) -> Result<()> {
    let foreground = !options.persistent;
    let lab = Lab::up(name, options)?;
    if foreground {
        lab.serve_releases()?;
        print_hosts(&lab);
        let _ = io::stdin().read_line(&mut String::new());
        return lab.down();
    }
    let this = std::env::current_exe().map_err(|source| Error::Io {
        what: "find this program".to_owned(),
        source,
    })?;
    lab.spawn_background(this, &["serve", "--name", name])?;
    print_hosts(&lab);
    Ok(())
}

fn print_hosts(lab: &Lab) {
    for host in lab.hosts() {
        println!("{}\t{}", host.name, host.ip);
    }
}

fn show_status() -> Result<()> {
    for lab in status()? {
        println!("{}\t{}", lab.name, lab.owner);
        if let Ok(lab) = Lab::attach(&lab.name) {
            for host in lab.hosts() {
                let state = if host.is_on() { "on" } else { "off" };
                println!("  {}\t{}\t{state}", host.name, host.ip);
            }
        }
    }
    Ok(())
}

fn afflict(fault: Fault) -> Result<()> {
    match fault {
        Fault::PowerOff(target) => host(&target)?.power_off(),
        Fault::PowerOn(target) => host(&target)?.power_on(),
        Fault::Freeze(target) => host(&target)?.freeze(),
        Fault::Thaw(target) => host(&target)?.thaw(),
        Fault::Partition { target, cut, ports } => {
            let cut = match cut {
                _ if !ports.is_empty() => Cut::Ports(ports),
                Direction::All => Cut::All,
                Direction::In => Cut::Incoming,
                Direction::Out => Cut::Outgoing,
            };
            host(&target)?.partition(&cut)
        }
        Fault::Heal(target) => host(&target)?.heal(),
        Fault::FillDisk { target, path } => host(&target)?.fill_disk(&path),
        Fault::DrainDisk { target, path } => host(&target)?.drain_disk(&path),
    }
}

fn host(target: &Target) -> Result<Host> {
    let lab = Lab::attach(&target.lab.name)?;
    lab.host(&target.host).cloned()
}

/// Replaces this process, so that signals, terminal and exit code are the program's own.
fn become_program(command: &mut process::Command) -> Result<ExitCode> {
    let source: io::Error = command.exec();
    Err(Error::Io {
        what: format!("run {}", command.get_program().to_string_lossy()),
        source,
    })
}
