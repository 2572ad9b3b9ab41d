//! A worker's schedules and watches are declared before it registers.

use sqlx::PgConnection;

use crate::{
    Error, Result,
    client::{Declaration, Declared, DeclaredWatches},
    handler::Registry,
};

/// Who declares, unless the application says its name.
const OWNER: &str = "app";

/// What a worker declares at its start.
#[derive(Debug)]
pub(crate) struct Jobs {
    pub(super) declaration: Declaration,
    /// The owner was named: its schedules are looked after even when none is declared any more.
    pub(super) owned: bool,
}

impl Default for Jobs {
    fn default() -> Self {
        Self { declaration: Declaration::of(OWNER), owned: false }
    }
}

impl Jobs {
    /// Refuses what can be refused without a database.
    pub(crate) fn check(&self, registry: &Registry) -> Result<()> {
        self.declaration.check()?;
        for (subject, handler) in self.declaration.jobs() {
            if registry.get(handler).is_none() {
                let problem = format!("no handler \"{handler}\" is registered in this worker");
                return Err(Error::invalid(subject, problem));
            }
        }
        if self.declaration.removes() && !self.owned {
            let problem = "wants an owner(..): without one, schedules of other applications could be meant";
            return Err(Error::invalid("remove_undeclared", problem));
        }
        Ok(())
    }

    /// Declares them; nothing is done for a worker that has none and names no owner.
    pub(crate) async fn declare(&self, conn: &mut PgConnection, registry: &Registry) -> Result<()> {
        if self.declaration.is_empty() && !self.owned {
            return Ok(());
        }
        let declared = self.declaration.clone().knowing(registry.names()).apply(conn).await?;
        self.tell(&declared);
        Ok(())
    }

    fn tell(&self, declared: &Declared) {
        let owner = self.declaration.owner();
        let Declared { inserted, updated, unchanged, newer, undeclared, removed, watches } = declared;
        if watches != &DeclaredWatches::default() {
            let DeclaredWatches { inserted, updated, unchanged, newer, undeclared, removed } = watches;
            tracing::info!(
                owner,
                ?inserted,
                ?updated,
                unchanged = unchanged.len(),
                ?newer,
                ?undeclared,
                ?removed,
                "watches declared"
            );
        }
        tracing::info!(owner, ?inserted, ?updated, unchanged = unchanged.len(), ?removed, "schedules declared");
        if !newer.is_empty() {
            tracing::info!(owner, schedules = ?newer, "left as a newer release declared them");
        }
        if !updated.is_empty() && !self.owned {
            tracing::warn!(
                owner,
                schedules = ?updated,
                "changed; another program that names no owner could change them back, so name one by owner(..)"
            );
        }
        if undeclared.is_empty() {
            return;
        }
        if self.owned {
            tracing::warn!(
                owner,
                schedules = ?undeclared,
                "no longer declared, and still firing; remove_undeclared(true) or DELETE removes them"
            );
        } else {
            tracing::warn!(
                owner,
                schedules = ?undeclared,
                "not declared here, and still firing: an earlier release left them, or they are of another \
                 program that names no owner; name one by owner(..)"
            );
        }
    }
}
