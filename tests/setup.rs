//! `launch/setup` installs Rust if it is missing or too old. Every program that it uses for this is replaced by a script.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// The programs that exist only if a test adds them.
const ABSENT: [&str; 9] = ["cargo", "rustc", "rustup", "apt-get", "apt-cache", "curl", "id", "python3", "sudo"];

/// A shell function that writes a rustc and a cargo of version $2 to the folder $1.
const INSTALL_RUST: &str = r#"install_rust() {
    mkdir -p "$1"
    printf '#!/bin/sh\necho rustc %s\n' "$2" >"$1/rustc"
    cp "$1/rustc" "$1/cargo"
    chmod +x "$1/rustc" "$1/cargo"
}"#;

/// A machine with an empty home folder, and with every program that building needs except Rust and its installers.
struct Machine {
    folder: TempDir,
}

impl Machine {
    fn new(user: u32) -> Machine {
        let machine = Machine { folder: tempfile::tempdir().unwrap() };
        for folder in [machine.programs(), machine.home()] {
            fs::create_dir(folder).unwrap();
        }
        for entry in ["/usr/bin", "/bin"].iter().flat_map(|folder| fs::read_dir(folder).unwrap()) {
            let program = entry.unwrap().path();
            let name = program.file_name().unwrap();
            if !ABSENT.iter().any(|absent| name == *absent) {
                // Both folders are often the same.
                let _ = symlink(&program, machine.programs().join(name));
            }
        }
        machine.add("id", &format!("echo {user}"));
        for program in ["c++", "cmake", "make", "nasm", "mpicc", "mpirun", "python3"] {
            machine.add(program, "");
        }
        machine
    }

    fn programs(&self) -> PathBuf {
        self.folder.path().join("programs")
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// Adds a program: a shell script that first prints on standard error that it ran.
    fn add(&self, name: &str, script: &str) {
        let path = self.programs().join(name);
        let _ = fs::remove_file(&path);
        fs::write(&path, format!("#!/bin/bash\necho \"ran: {name} $*\" >&2\n{INSTALL_RUST}\n{script}\n")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    }

    /// Adds the distribution's Rust.
    fn add_rust(&self, version: &str) {
        self.add("rustc", &format!("echo rustc {version}"));
        self.add("cargo", "");
    }

    /// Adds a curl that downloads an installer, which installs Rust for the user.
    fn add_installer(&self) {
        let installer = format!("{INSTALL_RUST}\ninstall_rust \"$HOME/.cargo/bin\" 1.99.0");
        self.add("curl", &format!("while [ \"$1\" != -o ]; do shift; done\ncat >\"$2\" <<'END'\n{installer}\nEND"));
    }

    /// Adds apt for a distribution that has a package with rustup.
    fn add_apt_with_rustup(&self) {
        self.add("apt-cache", "echo 'Package: rustup'");
        let rustup = self.rustup_script(None);
        let path = self.programs().join("rustup");
        let (path, end) = (path.display(), "END_OF_RUSTUP");
        self.add(
            "apt-get",
            &format!("[ $1 != install ] || {{ cat >{path} <<'{end}'\n{rustup}\n{end}\nchmod +x {path}; }}"),
        );
    }

    /// Returns a rustup whose default toolchain has this version, and whose stable toolchain is new.
    fn rustup_script(&self, default: Option<&str>) -> String {
        let programs = self.programs();
        let default = default.map_or("exit 1".to_string(), |version| format!("echo {version}"));
        format!(
            "#!/bin/bash\necho \"ran: rustup $*\" >&2\n{INSTALL_RUST}\ncase $* in\ndefault) {default} ;;\n\
             'default stable' | 'override set stable') install_rust {} 1.99.0 ;;\nesac",
            programs.display()
        )
    }

    fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.current_dir(env!("CARGO_MANIFEST_DIR")).env_clear();
        command.env("PATH", self.programs()).env("HOME", self.home());
        command.env("LIBTORCH", "/libtorch").env("LIBCLANG_PATH", "/libclang");
        command
    }

    fn set_up(&self) -> String {
        let output = self.command("launch/setup").output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        stderr(&output)
    }

    /// Returns the path of the cargo that the other scripts in launch/ use.
    fn cargo(&self) -> PathBuf {
        let mut shell = self.command("/bin/bash");
        let output = shell.args(["-euc", ". launch/rust; command -v cargo"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().into()
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Asserts that a message was printed before a program was run.
fn assert_announced(output: &str, message: &str, program: &str) {
    let (message, ran) = (output.find(message), output.find(&format!("ran: {program}")));
    assert!(message.is_some() && ran.is_some() && message < ran, "{output}");
}

#[test]
fn set_up_without_rust_runs_the_installer_for_the_user() {
    let machine = Machine::new(1000);
    machine.add_installer();
    assert_announced(&machine.set_up(), "installing it by the script of https://rustup.rs", "curl");
    assert_eq!(machine.cargo(), machine.home().join(".cargo/bin/cargo"));
    assert!(!machine.set_up().contains("ran: curl"));
}

#[test]
fn set_up_without_rust_as_root_installs_the_package_of_the_distribution() {
    let machine = Machine::new(0);
    machine.add_installer();
    machine.add_apt_with_rustup();
    let output = machine.set_up();
    assert_announced(&output, "installing the distribution's package rustup", "apt-get install");
    assert_announced(&output, "this user's default", "rustup default stable");
    assert!(!output.contains("ran: curl"), "{output}");
    assert_eq!(machine.cargo(), machine.programs().join("cargo"));
}

#[test]
fn set_up_without_rust_runs_the_installer_if_the_distribution_has_no_package() {
    let machine = Machine::new(0);
    machine.add_installer();
    machine.add("apt-get", "");
    machine.add("apt-cache", "");
    assert_announced(&machine.set_up(), "installing it by the script of https://rustup.rs", "curl");
    assert_eq!(machine.cargo(), machine.home().join(".cargo/bin/cargo"));
}

#[test]
fn set_up_with_an_old_rust_of_the_distribution_installs_another_beside_it() {
    let machine = Machine::new(1000);
    machine.add_installer();
    machine.add_rust("1.63.0");
    assert!(machine.set_up().contains("ran: curl"));
    assert_eq!(machine.cargo(), machine.home().join(".cargo/bin/cargo"));
}

#[test]
fn set_up_with_an_old_default_toolchain_uses_the_stable_one_in_this_folder() {
    let machine = Machine::new(1000);
    machine.add_installer();
    machine.add_rust("1.80.0");
    fs::write(machine.programs().join("rustup"), machine.rustup_script(Some("1.80.0"))).unwrap();
    fs::set_permissions(machine.programs().join("rustup"), Permissions::from_mode(0o755)).unwrap();
    let output = machine.set_up();
    assert_announced(&output, "updating rustup's stable toolchain", "rustup update stable");
    assert_announced(&output, "the default does not change", "rustup override set stable");
    assert!(!output.contains("ran: curl") && !output.contains("ran: rustup default stable"), "{output}");
}

#[test]
fn set_up_with_rust_installs_nothing() {
    let machine = Machine::new(1000);
    machine.add_rust("1.89.0");
    let output = machine.set_up();
    assert!(
        ["curl", "apt-get", "rustup"].iter().all(|program| !output.contains(&format!("ran: {program}"))),
        "{output}"
    );
    assert_eq!(machine.cargo(), machine.programs().join("cargo"));
}

#[test]
fn set_up_fails_if_the_installer_cannot_be_downloaded() {
    let machine = Machine::new(1000);
    machine.add("curl", "exit 6");
    let output = machine.command("launch/setup").output().unwrap();
    assert!(!output.status.success());
    assert!(stderr(&output).contains("cannot download the installer of rustup"), "{}", stderr(&output));
}
