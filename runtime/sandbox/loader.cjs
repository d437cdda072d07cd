'use strict';

// Started by the agent as `node --no-node-snapshot loader.cjs` with a socket as fd 3, over which its program comes first: u32le length ‖
// CommonJS. One file of JavaScript starts several times as fast as the many of TypeScript that it is made of (`program-source.ts`).
const { readSync } = require('node:fs');

const SOCKET = 3;

function read(length) {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length;) {
    const count = readSync(SOCKET, bytes, at, length - at, null);
    if (count === 0) process.exit(1); // the agent is gone
    at += count;
  }
  return bytes;
}

module._compile(read(read(4).readUInt32LE()).toString('utf8'), __filename);
