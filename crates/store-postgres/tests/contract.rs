//! The conformance suite.

mod support;

use support::on_postgres;

outlive_store_tests::suite!(on_postgres);
