//! Statements and their values. Every statement is *unnamed*: parsed, bound and run in one message, with the types of its
//! values given. So nothing of it is left in the session, and a pgbouncer in transaction mode may hand out another one.

use crate::fault::{Done, Fault};
use std::borrow::Cow;
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{Client, Row};
use uuid::Uuid;

/// A value with its type.
pub(crate) type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// A Rust value that has one type in the database.
pub(crate) trait Value: ToSql + Sync {
    const TYPE: Type;
}

macro_rules! values {
    ($($rust:ty => $one:ident, $many:ident;)*) => {$(
        impl Value for $rust { const TYPE: Type = Type::$one; }
        impl Value for Option<$rust> { const TYPE: Type = Type::$one; }
        impl Value for Vec<$rust> { const TYPE: Type = Type::$many; }
        impl Value for Vec<Option<$rust>> { const TYPE: Type = Type::$many; }
    )*};
}

values! {
    i64 => INT8, INT8_ARRAY;
    f64 => FLOAT8, FLOAT8_ARRAY;
    bool => BOOL, BOOL_ARRAY;
    &str => TEXT, TEXT_ARRAY;
    String => TEXT, TEXT_ARRAY;
    Uuid => UUID, UUID_ARRAY;
    &[u8] => BYTEA, BYTEA_ARRAY;
}

impl Value for Cow<'_, str> {
    const TYPE: Type = Type::TEXT;
}

impl Value for Vec<Cow<'_, str>> {
    const TYPE: Type = Type::TEXT_ARRAY;
}

impl Value for Vec<Option<Cow<'_, str>>> {
    const TYPE: Type = Type::TEXT_ARRAY;
}

/// The type of a value.
pub(crate) const fn type_of<T: Value>(_: &T) -> Type {
    T::TYPE
}

/// The values of a statement.
macro_rules! values_of {
    ($($value:expr),* $(,)?) => {
        &[$((&$value as &(dyn tokio_postgres::types::ToSql + Sync), $crate::value::type_of(&$value))),*]
    };
}
pub(crate) use values_of;

/// Text that the database can hold: it has no NUL, which becomes the symbol for it.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{2400}")) } else { Cow::Borrowed(text) }
}

/// Runs a statement that returns rows.
pub(crate) async fn query(conn: &Client, sql: &'static str, values: &[Param<'_>]) -> Done<Vec<Row>> {
    Ok(conn.query_typed(sql, values).await?)
}

/// Runs a statement that returns none; how many rows it changed.
pub(crate) async fn execute(conn: &Client, sql: &'static str, values: &[Param<'_>]) -> Done<u64> {
    Ok(conn.execute_typed(sql, values).await?)
}

/// The first column of every row.
pub(crate) async fn column<T: for<'r> FromSql<'r>>(
    conn: &Client,
    sql: &'static str,
    values: &[Param<'_>],
) -> Done<Vec<T>> {
    query(conn, sql, values).await?.iter().map(|row| get(row, 0)).collect()
}

/// The first column of the only row, if there is one.
pub(crate) async fn single<T: for<'r> FromSql<'r>>(
    conn: &Client,
    sql: &'static str,
    values: &[Param<'_>],
) -> Done<Option<T>> {
    query(conn, sql, values).await?.first().map(|row| get(row, 0)).transpose()
}

/// A column.
pub(crate) fn get<'r, T: FromSql<'r>>(row: &'r Row, i: usize) -> Done<T> {
    row.try_get(i).map_err(|error| Fault::damaged(format!("column {i} cannot be read: {error}")))
}

/// A narrow number.
pub(crate) fn small(row: &Row, i: usize) -> Done<i64> {
    get::<i16>(row, i).map(i64::from)
}

/// A narrow number, if there is one.
pub(crate) fn small_opt(row: &Row, i: usize) -> Done<Option<i64>> {
    Ok(get::<Option<i16>>(row, i)?.map(i64::from))
}
