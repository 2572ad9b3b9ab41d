//! `watchbell version`: this build, and the schema of the database if one is configured.

use std::process::ExitCode;

use serde::Serialize;

use super::Setting;
use super::output::note;
use crate::db::{self, Session};
use crate::error::Result;
use crate::migrate;

#[derive(Serialize)]
struct Version {
    version: &'static str,
    /// The newest schema this build knows, and the oldest it works with.
    schema_version: i32,
    schema_version_min: i32,
    /// What the database has: 0 for no schema, none if no database is configured or answers.
    database_schema_version: Option<i32>,
}

pub(super) async fn run(setting: &Setting) -> Result<ExitCode> {
    let found = match setting.database_if_any()? {
        None => None,
        Some(url) => match db::connect_as(&url, &Session::named("watchbell cli")).await {
            Ok(mut connection) => {
                let steps = migrate::status(&mut connection).await?;
                let applied = steps.iter().filter(|step| step.applied_at.is_some());
                Some(applied.map(|step| step.version).max().unwrap_or(0))
            }
            Err(error) => {
                note(&format!("note: {error}"));
                None
            }
        },
    };
    let version = Version {
        version: env!("CARGO_PKG_VERSION"),
        schema_version: migrate::VERSION,
        schema_version_min: migrate::OLDEST,
        database_schema_version: found,
    };
    let mut text = format!(
        "watchbell {}\nschema {} (works with {} and newer)",
        version.version, version.schema_version, version.schema_version_min
    );
    if let Some(found) = found {
        text.push_str(&format!(
            "\ndatabase {}",
            if found == 0 { "without schema".to_owned() } else { format!("schema {found}") }
        ));
    }
    setting.output.one(&version, &text, version.version)?;
    Ok(ExitCode::SUCCESS)
}
