//! A cluster of Redis or Valkey servers (feature `redis-cluster`).

use std::collections::BTreeSet;
use std::time::Duration;

use redis::cluster::{ClusterClient, ClusterConnection, cluster_pipe};
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::{Cmd, FromRedisValue, RedisResult, Value};

/// How often a request is sent again after its key has moved to another server.
const CLUSTER_RETRIES: u32 = 5;

pub(super) struct Client(ClusterClient);

pub(crate) struct Connection(Box<ClusterConnection>);

impl Client {
    pub(super) fn new(urls: &[String], timeout: Duration) -> Result<Client, String> {
        let builder = ClusterClient::builder(urls.iter().map(String::as_str))
            .connection_timeout(timeout)
            .response_timeout(timeout)
            .retries(CLUSTER_RETRIES);
        let client = builder.build().map_err(|error| error.to_string())?;
        Ok(Client(client))
    }

    pub(super) fn connect(&self) -> RedisResult<Connection> {
        Ok(Connection(Box::new(self.0.get_connection()?)))
    }
}

impl Connection {
    pub(super) fn query<T: FromRedisValue>(&mut self, command: &Cmd) -> RedisResult<T> {
        command.query(&mut *self.0)
    }

    /// Sends each request to the server that owns its key.
    pub(super) fn pipeline(&mut self, commands: &[Cmd]) -> RedisResult<Vec<RedisResult<Value>>> {
        let mut pipe = cluster_pipe();
        for command in commands {
            pipe.add_command(command.clone());
        }
        match pipe.query::<Vec<Value>>(&mut self.0) {
            Ok(answers) => Ok(answers.into_iter().map(Ok).collect()),
            Err(error) if error.is_io_error() => Err(error),
            // The library returns one error for the whole pipeline of a cluster.
            Err(_) => Ok(commands.iter().map(|one| self.query(one)).collect()),
        }
    }

    pub(super) fn query_at<T: FromRedisValue>(
        &mut self,
        (host, port): (&str, u16),
        command: &Cmd,
    ) -> RedisResult<T> {
        let host = host.to_owned();
        let address = SingleNodeRoutingInfo::ByAddress { host, port };
        let answer = (self.0).route_command(command, RoutingInfo::SingleNode(address))?;
        Ok(redis::from_redis_value(answer)?)
    }

    /// Returns the addresses of the servers that own keys.
    pub(super) fn nodes(&mut self) -> RedisResult<BTreeSet<(String, u16)>> {
        let any = RoutingInfo::SingleNode(SingleNodeRoutingInfo::Random);
        let slots = (self.0).route_command(redis::cmd("CLUSTER").arg("SLOTS"), any)?;
        let slots: Vec<Vec<Value>> = redis::from_redis_value(slots)?;
        let mut nodes = BTreeSet::new();
        for range in slots {
            let Some(owner) = range.into_iter().nth(2) else {
                continue;
            };
            let owner: Vec<Value> = redis::from_redis_value(owner)?;
            let mut parts = owner.into_iter();
            if let (Some(host), Some(port)) = (parts.next(), parts.next()) {
                nodes.insert((
                    redis::from_redis_value(host)?,
                    redis::from_redis_value(port)?,
                ));
            }
        }
        Ok(nodes)
    }
}
