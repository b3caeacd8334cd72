import type { Benchmark } from '../bench.js';
import { startEtcd } from '../peers/etcd.js';
import { measuringCpu } from '../processes.js';
import { startTideline, TIDELINE_DESCRIPTION } from '../tideline-cluster.js';
import { runWrk } from '../wrk.js';

/** 100-byte values under 100,000 keys of 20 bytes, as etcd's JSON gateway and our REST take them. Both are asked at their leader. */
const KEYS = 100_000;

const ourScript = `
local n = 0
local value = string.rep("v", 100)
request = function()
  n = (n + 1) % ${KEYS}
  return wrk.format("PUT", string.format("/v1/views/default/entries/bench-key-%010d", n), {["Content-Type"] = "application/octet-stream"}, value)
end`;

const etcdScript = `
local n = 0
local b = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
local function encode(data)
  return ((data:gsub(".", function(x)
    local r, v = "", x:byte()
    for i = 8, 1, -1 do r = r .. (v % 2 ^ i - v % 2 ^ (i - 1) > 0 and "1" or "0") end
    return r
  end) .. "0000"):gsub("%d%d%d?%d?%d?%d?", function(x)
    if #x < 6 then return "" end
    local c = 0
    for i = 1, 6 do c = c + (x:sub(i, i) == "1" and 2 ^ (6 - i) or 0) end
    return b:sub(c + 1, c + 1)
  end) .. ({"", "==", "="})[#data % 3 + 1])
end
local value = encode(string.rep("v", 100))
local bodies = {}
for i = 0, 999 do bodies[i] = '{"key":"' .. encode(string.format("bench-key-%010d", i * 100)) .. '","value":"' .. value .. '"}' end
request = function()
  n = (n + 1) % 1000
  return wrk.format("POST", "/v3/kv/put", {["Content-Type"] = "application/json"}, bodies[n])
end`;

const connectionsOf = (which: string): number => Number(which.split(' ')[0]);

export const putRest: Benchmark = {
  name: 'put-rest',
  unit: 'puts/s',
  higherIsBetter: true,
  summary: 'PUT of 100-byte values over HTTP, replicated and synced',
  cases: ['64 connections', '256 connections'],
  peers: ['etcd'],
  ours: async ({ directory }, which) => {
    const cluster = await startTideline(directory);
    const url = `http://127.0.0.1:${await cluster.leaderHttpPort('default')}`;
    return {
      description: TIDELINE_DESCRIPTION,
      run: (seconds) =>
        cluster.measured(() =>
          runWrk({ url, connections: connectionsOf(which), seconds, script: ourScript, directory }),
        ),
      stop: () => cluster.stop(),
    };
  },
  peer: async ({ directory }, which) => {
    const etcd = await startEtcd(directory);
    if (!etcd) return null;
    return {
      description: etcd.description,
      run: (seconds) =>
        measuringCpu(etcd.pids, () =>
          runWrk({
            url: `http://127.0.0.1:${etcd.httpPort}`,
            connections: connectionsOf(which),
            seconds,
            script: etcdScript,
            directory,
          }),
        ),
      stop: () => etcd.stop(),
    };
  },
};
