//! Whether and how the handler `shell` may run commands.

use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;
use nix::unistd::geteuid;

use crate::error::{Error, Result};
use crate::handler::shell::{self, Limit, Shell};

#[derive(Debug, Args)]
#[command(next_help_heading = "The handler shell")]
pub(in crate::cli) struct ShellArgs {
    /// Let runs of the handler shell start programs ("argv").
    #[arg(long, env = "WATCHBELL_ENABLE_SHELL", value_parser = BoolishValueParser::new())]
    enable_shell: bool,
    /// Let runs of the handler shell give lines to a shell ("command"); the shell must be among the programs.
    #[arg(long, env = "WATCHBELL_ENABLE_SHELL_COMMAND", value_parser = BoolishValueParser::new())]
    enable_shell_command: bool,
    /// The shell for such lines: sh, bash, or another by its path.
    #[arg(long, env = "WATCHBELL_SHELL", value_name = "PROGRAM", default_value = "sh")]
    shell: String,
    /// The programs that may be run, with commas between them: paths, names in PATH, directories (/opt/jobs/), or any.
    #[arg(long, env = "WATCHBELL_SHELL_PROGRAMS", value_name = "PROGRAMS", value_delimiter = ',')]
    shell_programs: Vec<String>,
    /// Variables of the worker's environment that are passed on, with commas between them.
    #[arg(long, env = "WATCHBELL_SHELL_ENV", value_name = "NAMES", value_delimiter = ',')]
    shell_env: Vec<String>,
    /// PATH for commands.
    #[arg(long, env = "WATCHBELL_SHELL_PATH", value_name = "PATH", default_value = shell::PATH)]
    shell_path: String,
    /// The directory that commands start in.
    #[arg(long, env = "WATCHBELL_SHELL_CWD", value_name = "DIRECTORY", default_value = "/")]
    shell_cwd: PathBuf,
    /// Accounts that commands may run as, USER or USER:GROUP, with commas between them; the first is the default.
    #[arg(long, env = "WATCHBELL_SHELL_RUN_AS", value_name = "ACCOUNTS", value_delimiter = ',')]
    shell_run_as: Vec<String>,
    /// The umask of commands.
    #[arg(long, env = "WATCHBELL_SHELL_UMASK", value_name = "OCTAL", default_value = "022", value_parser = shell::umask)]
    shell_umask: u32,
    /// Limits on each process, with commas between them: cpu=10m,memory=1GiB,file_size,open_files,processes,core.
    #[arg(long, env = "WATCHBELL_SHELL_LIMITS", value_name = "NAME=VALUE", value_delimiter = ',', value_parser = limit)]
    shell_limits: Vec<(Limit, u64)>,
    /// Let commands gain privileges, by sudo or setuid programs.
    #[arg(long, env = "WATCHBELL_SHELL_NEW_PRIVILEGES", value_parser = BoolishValueParser::new())]
    shell_new_privileges: bool,
}

fn limit(text: &str) -> Result<(Limit, u64), String> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE, such as cpu=10m")?;
    let limit = Limit::named(name)?;
    Ok((limit, limit.value(value)?))
}

impl ShellArgs {
    /// Whether any form of command may be run.
    pub(super) fn is_enabled(&self) -> bool {
        self.enable_shell || self.enable_shell_command
    }

    /// The handler, checked against this machine. From here on this process's environment, which may hold the
    /// database's password, cannot be read by commands.
    pub(super) fn handler(&self) -> Result<Shell> {
        let mut handler =
            Shell::new().argv(self.enable_shell).path(&self.shell_path).cwd(&self.shell_cwd).umask(self.shell_umask);
        if self.shell_programs.is_empty() {
            let problem = "none is allowed; name what may be run, such as rsync,/opt/jobs/ (or: any)";
            return Err(Error::invalid("--shell-programs", problem));
        }
        for program in &self.shell_programs {
            handler = if program == "any" { handler.any_program() } else { handler.program(program) };
        }
        if self.enable_shell_command {
            handler = handler.commands(&self.shell);
        }
        handler = self.shell_env.iter().fold(handler, Shell::pass_env);
        handler = self.shell_run_as.iter().fold(handler, Shell::run_as);
        handler = self.shell_limits.iter().fold(handler, |handler, (limit, value)| handler.limit(*limit, *value));
        if self.shell_new_privileges {
            handler = handler.allow_new_privileges();
        }
        handler.check()?;
        if geteuid().is_root() && self.shell_run_as.is_empty() {
            tracing::warn!("commands of the handler shell run as root; --shell-run-as names another account");
        }
        shell::hide_environment();
        Ok(handler)
    }
}
