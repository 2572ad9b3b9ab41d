//! What a declaration did, name by name.

/// What a declaration did, schedule by schedule and watch by watch.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// use watchbell::client::{Declaration, Declared, NewSchedule};
/// use watchbell::cron;
///
/// let declaration = Declaration::of("billing").schedule(NewSchedule::new("invoices", cron("@daily"), "invoices"));
/// let Declared { inserted, updated, unchanged, .. } = declaration.apply(&mut *pool.acquire().await?).await?;
/// println!("new {inserted:?}, changed {updated:?}, as before {unchanged:?}");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Declared {
    /// There was none of this name.
    pub inserted: Vec<String>,
    /// Its definition is the new one.
    pub updated: Vec<String>,
    /// Its definition was the same already.
    pub unchanged: Vec<String>,
    /// A newer release declared it; it stays as that left it.
    pub newer: Vec<String>,
    /// The owner has it, and this declaration does not: it goes on firing.
    pub undeclared: Vec<String>,
    /// It was undeclared, and deleted because [`Declaration::remove_undeclared`](super::Declaration::remove_undeclared)
    /// asked for it.
    pub removed: Vec<String>,
    /// The same of watches.
    pub watches: DeclaredWatches,
}

/// What a declaration did, watch by watch.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> watchbell::Result<()> {
/// use watchbell::client::{Declaration, NewWatch, Watch};
///
/// let declaration = Declaration::of("cloud").watch(NewWatch::new("hosts", Watch::table("public.hosts")));
/// let watches = declaration.apply(&mut *pool.acquire().await?).await?.watches;
/// println!("new {:?}, changed {:?}", watches.inserted, watches.updated);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeclaredWatches {
    /// There was none of this name.
    pub inserted: Vec<String>,
    /// Its definition is the new one.
    pub updated: Vec<String>,
    /// Its definition was the same already.
    pub unchanged: Vec<String>,
    /// A newer release declared it; it stays as that left it.
    pub newer: Vec<String>,
    /// The owner has it, and this declaration does not: its rows are taken as before.
    pub undeclared: Vec<String>,
    /// It was undeclared, and deleted because it was asked for; the rows of its table stay.
    pub removed: Vec<String>,
}

impl Declared {
    /// Of schedules and of watches.
    pub(super) fn of(schedules: DeclaredWatches, watches: DeclaredWatches) -> Self {
        let DeclaredWatches { inserted, updated, unchanged, newer, undeclared, removed } = schedules;
        Self { inserted, updated, unchanged, newer, undeclared, removed, watches }
    }
}
