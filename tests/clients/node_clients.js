// ioredis and node-redis, as their documentation uses them: node_clients.js PORT.
const assert = require("assert");
const Redis = require("ioredis");
const { createClient } = require("redis");

const port = Number(process.argv[2]);

async function ioredis() {
  const client = new Redis({ port, host: "127.0.0.1", db: 3, maxRetriesPerRequest: 1 });
  await client.flushdb();
  assert.strictEqual(await client.set("chave_1", "Relou Uourdi", "EX", 100), "OK");
  assert.strictEqual(await client.get("chave_1"), "Relou Uourdi");
  await client.hset("meu_hash", { nome: "thailan", city: "Recife" });
  assert.deepStrictEqual(await client.hgetall("meu_hash"), { nome: "thailan", city: "Recife" });
  const replies = await client.multi().incr("n").incr("n").exec();
  assert.deepStrictEqual(replies, [[null, 1], [null, 2]]);
  const keys = [];
  for await (const page of client.scanStream({ count: 1 })) keys.push(...page);
  assert.deepStrictEqual(keys.sort(), ["chave_1", "meu_hash", "n"]);
  await client.quit();
}

async function nodeRedis() {
  const client = createClient({ url: `redis://127.0.0.1:${port}/4`, socket: { reconnectStrategy: false } });
  client.on("error", (error) => { throw error; });
  await client.connect();
  await client.flushDb();
  await client.set("k", "v", { EX: 100, NX: true });
  assert.strictEqual(await client.get("k"), "v");
  await client.hSet("h", { a: "1", b: "2" });
  assert.deepStrictEqual({ ...(await client.hGetAll("h")) }, { a: "1", b: "2" });
  assert.deepStrictEqual(await client.multi().incr("n").get("k").exec(), [1, "v"]);
  const listener = client.duplicate();
  await listener.connect();
  const heard = new Promise((resolve) => listener.subscribe("news", resolve).then(() => client.publish("news", "olá")));
  assert.strictEqual(await heard, "olá");
  await listener.close();
  await client.close();
}

const limit = setTimeout(() => { console.error("nothing comes"); process.exit(1); }, 30000);
ioredis().then(nodeRedis).then(() => {
  clearTimeout(limit);
  const version = (name) => JSON.parse(require("fs").readFileSync(`${process.cwd()}/node_modules/${name}/package.json`)).version;
  console.log(`ioredis ${version("ioredis")}, node-redis ${version("redis")}`);
  process.exit(0);
});
