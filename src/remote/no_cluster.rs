//! Stands in for `cluster.rs` in a build without the feature `redis-cluster`: a cluster's URL is an
//! error, and no value of these types exists.

use std::collections::BTreeSet;
use std::time::Duration;

use redis::{Cmd, FromRedisValue, RedisResult, Value};

pub(super) enum Client {}

pub(crate) enum Connection {}

impl Client {
    pub(super) fn new(_urls: &[String], _timeout: Duration) -> Result<Client, String> {
        Err(
            "this build does not support clusters: build it with the feature \"redis-cluster\""
                .to_owned(),
        )
    }

    pub(super) fn connect(&self) -> RedisResult<Connection> {
        match *self {}
    }
}

impl Connection {
    pub(super) fn query<T: FromRedisValue>(&mut self, _command: &Cmd) -> RedisResult<T> {
        match *self {}
    }

    pub(super) fn pipeline(&mut self, _commands: &[Cmd]) -> RedisResult<Vec<RedisResult<Value>>> {
        match *self {}
    }

    pub(super) fn query_at<T: FromRedisValue>(
        &mut self,
        _node: (&str, u16),
        _command: &Cmd,
    ) -> RedisResult<T> {
        match *self {}
    }

    pub(super) fn nodes(&mut self) -> RedisResult<BTreeSet<(String, u16)>> {
        match *self {}
    }
}
