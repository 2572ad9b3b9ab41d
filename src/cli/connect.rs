//! The database of a command.

use sqlx::PgConnection;

use super::Setting;
use crate::db::{self, DatabaseUrl, Session};
use crate::error::{Error, Result};

impl Setting {
    /// The database that is configured, if any.
    pub(super) fn database_if_any(&self) -> Result<Option<DatabaseUrl>> {
        if let Some(url) = DatabaseUrl::configured(self.database_url.as_deref())? {
            return Ok(Some(url));
        }
        let Some(file) = &self.file else { return Ok(None) };
        let Some(text) = &file.database_url else { return Ok(None) };
        text.parse().map(Some).map_err(|error| match error {
            Error::Invalid { problem, .. } => {
                Error::invalid(file.place("database-url", text).unwrap_or_default(), problem)
            }
            error => error,
        })
    }

    /// The database that is configured.
    pub(super) fn database(&self) -> Result<DatabaseUrl> {
        self.database_if_any()?.ok_or_else(|| Error::Unreachable {
            target: "a database".to_owned(),
            problem: "none is configured; set --database-url, WATCHBELL_DATABASE_URL or DATABASE_URL".to_owned(),
        })
    }

    /// A connection to a database whose schema this build works with.
    pub(super) async fn connect(&self, url: &DatabaseUrl) -> Result<PgConnection> {
        let mut connection = db::connect_as(url, &Session::named("watchbell cli")).await?;
        crate::migrate::check(&mut connection).await?;
        Ok(connection)
    }
}
