// Runs cells in this process, one after the other. What a cell defines, the next one sees; it may `await`.
//
// Descriptor 3 is a socket to the runner: each way a length of four bytes, the least first, and so many bytes of JSON.
'use strict';
const fs = require('node:fs');
const net = require('node:net');
const repl = require('node:repl');
const util = require('node:util');
const vm = require('node:vm');
const { PassThrough } = require('node:stream');
const { createRequire } = require('node:module');

const VALUE_MAX = 16384;
const runner = new net.Socket({ fd: 3, readable: true, writable: true });

// What a script declares, the next one sees. Only cells that `await` need the REPL, which cannot be interrupted.
const shell = repl.start({ input: new PassThrough(), output: new PassThrough(), terminal: false, useGlobal: true, prompt: '' });
globalThis.require = createRequire('/workspace/cell.mjs');
const loader = (vm.constants || {}).USE_MAIN_CONTEXT_DEFAULT_LOADER;

// Only a cell is interrupted: one that computes by the engine, one that waits here.
let interrupt = () => {};
process.on('SIGINT', () => interrupt(new Error('interrupted')));

function evaluate(code, filename) {
  let script;
  try {
    script = new vm.Script(code, { filename, importModuleDynamically: loader });
  } catch (error) {
    if (!/\bawait\b/.test(code)) return Promise.reject(error);
    return new Promise((resolve, reject) => {
      interrupt = reject;
      shell.eval(code.endsWith('\n') ? code : code + '\n', shell.context, filename, (error, value) => {
        if (!error) return resolve(value);
        // An input that could go on is one that is not whole.
        reject(error instanceof repl.Recoverable ? error.err : error);
      });
    });
  }
  return new Promise((resolve, reject) => {
    // From the event loop: what runs as a reaction to a promise cannot be interrupted by itself.
    setImmediate(() => {
      try {
        const value = script.runInThisContext({ breakOnSigint: true });
        interrupt = reject;
        resolve(value);
      } catch (error) {
        reject(error);
      }
    });
  });
}

function shown(value) {
  const text = typeof value === 'string' ? JSON.stringify(value) : util.inspect(value, { depth: 4 });
  return text.length <= VALUE_MAX ? text : text.slice(0, VALUE_MAX) + `… (${text.length} characters)`;
}

// The stack, without the frames of this file and of Node itself.
function stack(error, told) {
  if (!(error && error.stack)) return told;
  const foreign = (line) => /^\s+at /.test(line) && (line.includes(__filename) || line.includes('node:'));
  return String(error.stack).split('\n').filter((line) => !foreign(line)).join('\n');
}

async function run(code, cell) {
  try {
    const value = await evaluate(code, `<cell ${cell}>`);
    return value === undefined ? { ok: true } : { ok: true, value: shown(value) };
  } catch (error) {
    let told;
    try {
      told = error instanceof Error ? `${error.name}: ${error.message}` : util.inspect(error);
      fs.writeSync(2, stack(error, told) + '\n');
    } catch {
      told = 'an error that cannot be shown';
    }
    return { ok: false, error: told.slice(0, 1000) };
  }
}

function say(reply) {
  // Half a pair of surrogates is no text, and JSON writes it as an escape that nobody else takes.
  const body = Buffer.from(JSON.stringify(reply).replace(/\\ud[89a-f][0-9a-f]{2}/gi, '\\ufffd'));
  const head = Buffer.alloc(4);
  head.writeUInt32LE(body.length);
  runner.write(Buffer.concat([head, body]));
}

// What a cell left to itself must not end the process that others need.
process.on('uncaughtException', (error) => fs.writeSync(2, `${error && error.stack ? error.stack : error}\n`));
process.on('unhandledRejection', (error) => fs.writeSync(2, `${error && error.stack ? error.stack : error}\n`));

let heard = Buffer.alloc(0);
let turn = run('1 + 1', 0).then(() => say({ ready: true }));
runner.on('data', (part) => {
  heard = Buffer.concat([heard, part]);
  while (heard.length >= 4 && heard.length >= 4 + heard.readUInt32LE(0)) {
    const end = 4 + heard.readUInt32LE(0);
    const { code, cell } = JSON.parse(heard.subarray(4, end).toString());
    heard = heard.subarray(end);
    turn = turn.then(() => run(code, cell)).then((reply) => say({ cell, ...reply }));
  }
});
runner.on('close', () => process.exit(0));
