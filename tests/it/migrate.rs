//! The schema comes, once and whole, from any number of processes and by hand, and says when it does not fit.

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection};
use watchbell::Error;
use watchbell::error::SchemaMismatch;
use watchbell::migrate::{self, OLDEST, VERSION};

use crate::support::Database;

async fn run(connection: &mut PgConnection, statement: &str) {
    let done = sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(connection).await;
    done.unwrap_or_else(|e| panic!("{statement}: {e}"));
}

async fn names(connection: &mut PgConnection, query: &'static str) -> Vec<String> {
    sqlx::query_scalar(query).fetch_all(connection).await.unwrap()
}

/// A role without any right, dropped with what it owns.
struct Plain {
    name: String,
    admin: PgConnection,
}

impl Plain {
    async fn new(database: &Database, what: &str) -> Self {
        let mut admin = database.connect_admin().await;
        let name = format!("plain_{what}_{}", std::process::id());
        run(&mut admin, &format!("create role {name}; grant {name} to current_user")).await;
        Self { name, admin }
    }

    /// A connection that acts as this role.
    async fn connect(&self, database: &Database) -> PgConnection {
        let mut connection = database.connect_admin().await;
        run(&mut connection, &format!("set role {}", self.name)).await;
        connection
    }

    async fn drop(mut self) {
        run(&mut self.admin, &format!("drop owned by {0} cascade; drop role {0}", self.name)).await;
    }
}

#[tokio::test]
async fn an_owner_without_other_rights_migrates_an_empty_database() {
    let database = Database::empty().await;
    let mut owner = Plain::new(&database, "owner").await;
    let name: String = sqlx::query_scalar("select current_database()").fetch_one(&mut owner.admin).await.unwrap();
    run(&mut owner.admin, &format!("grant create on database {name} to {}", owner.name)).await;
    let mut connection = owner.connect(&database).await;
    let report = migrate::up(&mut connection).await.unwrap();
    assert_eq!((report.from, report.to, report.applied.len()), (0, VERSION, VERSION as usize));
    migrate::check(&mut connection).await.unwrap();
    let again = migrate::up(&mut connection).await.unwrap();
    assert_eq!((again.from, again.to, again.applied.len()), (VERSION, VERSION, 0));
    owner.drop().await;
}

#[tokio::test]
async fn a_schema_made_for_the_role_beforehand_is_used() {
    let database = Database::empty().await;
    let mut owner = Plain::new(&database, "given").await;
    run(&mut owner.admin, &format!("create schema watchbell authorization {}", owner.name)).await;
    migrate::up(&mut owner.connect(&database).await).await.unwrap();
    owner.drop().await;
}

#[tokio::test]
async fn a_role_that_may_not_is_told_the_grant() {
    let database = Database::empty().await;
    let mut plain = Plain::new(&database, "denied").await;
    let name: String = sqlx::query_scalar("select current_database()").fetch_one(&mut plain.admin).await.unwrap();
    let mut connection = plain.connect(&database).await;
    let error = migrate::up(&mut connection).await.unwrap_err();
    assert!(matches!(error, Error::Denied(_)), "{error:?}");
    assert_eq!(
        error.to_string(),
        format!(
            "permission denied: role \"{0}\" may not create the schema watchbell in database \"{name}\"; \
             its owner can run: GRANT CREATE ON DATABASE \"{name}\" TO \"{0}\"",
            plain.name
        )
    );

    migrate::up(&mut database.connect().await).await.unwrap();
    let owner: String =
        sqlx::query_scalar("select nspowner::regrole::text from pg_namespace where nspname = 'watchbell'")
            .fetch_one(&mut plain.admin)
            .await
            .unwrap();
    let error = migrate::up(&mut connection).await.unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "permission denied: role \"{0}\" does not own the schema watchbell, \"{owner}\" does; migrate as that role, \
             or let it run: GRANT \"{owner}\" TO \"{0}\"",
            plain.name
        )
    );
    let error = migrate::check(&mut connection).await.unwrap_err();
    assert!(matches!(error, Error::Denied(_)), "{error:?}");
    plain.drop().await;
}

#[tokio::test]
async fn any_number_of_migrators_at_once_apply_each_migration_once() {
    let database = Database::empty().await;
    let mut migrators = Vec::new();
    for _ in 0..5 {
        let mut connection = database.connect().await;
        migrators.push(tokio::spawn(async move { migrate::up(&mut connection).await.unwrap().applied }));
    }
    let mut applied = Vec::new();
    for migrator in migrators {
        applied.extend(migrator.await.unwrap());
    }
    assert_eq!(applied.len(), VERSION as usize, "{applied:?}");
    migrate::check(&mut database.connect().await).await.unwrap();
}

#[tokio::test]
async fn a_migrator_that_waits_in_vain_says_for_what() {
    let database = Database::fresh().await;
    let (mut other, mut connection) = (database.connect().await, database.connect().await);
    run(&mut other, "select pg_advisory_lock(hashtextextended('watchbell:migrate', 0))").await;
    let error = migrate::up_within(&mut connection, Duration::from_millis(120)).await.unwrap_err();
    assert!(error.to_string().starts_with("another process is migrating this database"), "{error}");
    run(&mut other, "select pg_advisory_unlock_all()").await;

    // The last migration is to be applied again, and someone holds a table that it touches.
    run(&mut other, "delete from watchbell.migrations where version = 11").await;
    run(&mut other, "begin; lock table watchbell.queues").await;
    let error = migrate::up_within(&mut connection, Duration::ZERO).await.unwrap_err();
    assert!(error.to_string().starts_with("migration 0011_comments failed and left nothing: "), "{error}");
    let waiting = tokio::spawn(async move { migrate::up(&mut connection).await.unwrap() });
    tokio::time::sleep(Duration::from_millis(300)).await;
    run(&mut other, "commit").await;
    assert_eq!(waiting.await.unwrap().applied, ["0011_comments"]);
    let locks: i64 = sqlx::query_scalar("select count(*) from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())")
        .fetch_one(&mut other)
        .await
        .unwrap();
    assert_eq!(locks, 0);
}

#[tokio::test]
async fn a_failed_migration_leaves_nothing_and_the_next_call_goes_on() {
    let database = Database::empty().await;
    let mut connection = database.connect().await;
    run(&mut connection, "create schema watchbell; create table watchbell.handlers ()").await;
    let error = migrate::up(&mut connection).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "migration 0003_workers failed and left nothing: relation \"handlers\" already exists"
    );
    assert!(matches!(
        migrate::check(&mut connection).await,
        Err(Error::Schema(SchemaMismatch::TooOld { found: 2, needed: OLDEST }))
    ));
    let workers = names(&mut connection, "select tablename::text from pg_tables where tablename = 'workers'").await;
    assert!(workers.is_empty());
    run(&mut connection, "drop table watchbell.handlers").await;
    let report = migrate::up(&mut connection).await.unwrap();
    assert_eq!((report.from, report.to), (2, VERSION));
}

#[tokio::test]
async fn an_applied_migration_that_was_edited_is_named() {
    let database = Database::fresh().await;
    let mut connection = database.connect().await;
    run(&mut connection, "update watchbell.migrations set checksum = 'feed' where version = 6").await;
    let error = migrate::up(&mut connection).await.unwrap_err().to_string();
    assert!(
        error.starts_with(
            "migration 0006_cron was applied to this database with another text (checksum feed, this build has "
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_schema_that_does_not_fit_is_told_from_one_that_does() {
    let database = Database::empty().await;
    let mut connection = database.connect().await;
    let mismatch = async |connection: &mut PgConnection| match migrate::check(connection).await {
        Ok(()) => None,
        Err(Error::Schema(mismatch)) => Some(mismatch),
        Err(error) => panic!("{error}"),
    };
    assert_eq!(mismatch(&mut connection).await, Some(SchemaMismatch::Missing));
    run(&mut connection, "create schema watchbell").await;
    assert_eq!(mismatch(&mut connection).await, Some(SchemaMismatch::Missing));
    migrate::up(&mut connection).await.unwrap();
    assert_eq!(mismatch(&mut connection).await, None);

    let newer = "insert into watchbell.migrations (version, name, checksum, min_build) values (99, '0099_later', 'x', ";
    run(&mut connection, &format!("{newer}1)")).await;
    assert_eq!(mismatch(&mut connection).await, None, "a newer release has added something that we need not know");
    assert_eq!(migrate::up(&mut connection).await.unwrap().applied, [""; 0]);
    run(&mut connection, "update watchbell.migrations set min_build = 99 where version = 99").await;
    let too_new = Some(SchemaMismatch::TooNew { found: 99, known: VERSION });
    assert_eq!(mismatch(&mut connection).await, too_new);
    assert!(matches!(migrate::up(&mut connection).await, Err(Error::Schema(SchemaMismatch::TooNew { found: 99, .. }))));

    run(&mut connection, "delete from watchbell.migrations where version in (3, 99)").await;
    let too_old = Some(SchemaMismatch::TooOld { found: 2, needed: OLDEST });
    assert_eq!(mismatch(&mut connection).await, too_old);
}

#[tokio::test]
async fn status_lists_what_is_applied_and_what_is_to_come() {
    let database = Database::empty().await;
    let mut connection = database.connect().await;
    let steps = migrate::status(&mut connection).await.unwrap();
    assert_eq!(steps.len(), VERSION as usize);
    assert!(steps.iter().all(|step| step.applied_at.is_none()));
    migrate::up(&mut connection).await.unwrap();
    run(
        &mut connection,
        "delete from watchbell.migrations where version = 11;
         insert into watchbell.migrations (version, name, checksum, min_build) values (99, '0099_later', 'x', 1)",
    )
    .await;
    let steps = migrate::status(&mut connection).await.unwrap();
    let applied =
        |version| steps.iter().find(|s| s.version == version).map(|s| (s.name.as_str(), s.applied_by.is_some()));
    assert_eq!(applied(10), Some(("0010_ends", true)));
    assert_eq!(applied(11), Some(("0011_comments", false)));
    assert_eq!(applied(99), Some(("0099_later", true)));
    assert!(steps.is_sorted_by_key(|step| step.version));
}

#[tokio::test]
async fn the_script_run_by_hand_makes_a_schema_that_fits() {
    let database = Database::empty().await;
    let mut connection = database.connect().await;
    run(&mut connection, &migrate::sql(None)).await;
    migrate::check(&mut connection).await.unwrap();
    assert_eq!(migrate::up(&mut connection).await.unwrap().applied, [""; 0]);
}

#[tokio::test]
async fn the_script_continues_from_a_version() {
    let database = Database::empty().await;
    let mut connection = database.connect().await;
    let (all, rest) = (migrate::sql(None), migrate::sql(Some(5)));
    let (_, steps) = rest.split_once('\n').unwrap();
    run(&mut connection, all.strip_suffix(steps).unwrap()).await;
    assert_eq!(migrate::status(&mut connection).await.unwrap().iter().filter(|s| s.applied_at.is_some()).count(), 5);
    run(&mut connection, &rest).await;
    migrate::check(&mut connection).await.unwrap();
    assert!(!migrate::sql(Some(VERSION)).contains("begin"));
}

#[tokio::test]
async fn every_table_and_column_has_a_comment() {
    let database = Database::fresh().await;
    let bare = names(
        &mut database.connect().await,
        "select concat_ws('.', c.relname, a.attname)
         from pg_class c
         left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
         where c.relnamespace = 'watchbell'::regnamespace and c.relkind in ('r', 'p', 'v') and not c.relispartition
           and (col_description(c.oid, a.attnum) is null or obj_description(c.oid, 'pg_class') is null)",
    )
    .await;
    assert_eq!(bare, [""; 0]);
}

#[tokio::test]
async fn every_function_fixes_its_search_path_and_none_that_acts_as_the_owner_is_open_to_all() {
    let database = Database::fresh().await;
    let mut connection = database.connect().await;
    let loose = names(
        &mut connection,
        "select proname::text from pg_proc where pronamespace = 'watchbell'::regnamespace
           and not coalesce(array_to_string(proconfig, ','), '') ~ 'search_path=watchbell, pg_temp'",
    )
    .await;
    assert_eq!(loose, [""; 0]);
    // A trigger function cannot be called but by a trigger.
    let open = names(
        &mut connection,
        "select p.proname::text from pg_proc p
         where pronamespace = 'watchbell'::regnamespace and prosecdef and prorettype <> 'trigger'::regtype
           and (proacl is null or exists (select from aclexplode(proacl) a where a.grantee = 0))",
    )
    .await;
    assert_eq!(open, [""; 0]);
}

#[tokio::test]
async fn nothing_needs_an_extension() {
    let database = Database::fresh().await;
    let extensions = names(&mut database.connect().await, "select extname::text from pg_extension").await;
    assert_eq!(extensions, ["plpgsql"]);
}
