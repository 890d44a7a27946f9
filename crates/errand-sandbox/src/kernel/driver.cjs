// Runs cells in this process, one after the other. What a cell defines, the next one sees; it may `await`.
//
// Descriptor 3 is a socket to the runner: each way a length of four bytes, the least first, and so many bytes of JSON.
'use strict';
const fs = require('node:fs');
const inspector = require('node:inspector');
const net = require('node:net');
const path = require('node:path');
const util = require('node:util');
const vm = require('node:vm');
const { createRequire, isBuiltin } = require('node:module');
const { pathToFileURL } = require('node:url');

const VALUE_MAX = 16384;
const WORKSPACE = '/workspace';
const runner = new net.Socket({ fd: 3, readable: true, writable: true });

// Only this engine lets a later cell declare a name once more, as programs do that were each written as a whole.
const session = new inspector.Session();
session.connect();
globalThis.require = createRequire(`${WORKSPACE}/cell.mjs`);
const load = importer();
Object.defineProperty(globalThis, '__import', { value: load, enumerable: false, writable: true, configurable: true });

// Only a cell is interrupted: one that computes by the engine, one that waits here.
let interrupt = () => {};
process.on('SIGINT', () => interrupt(new Error('interrupted')));

// What imports for cells: from the workspace, and a file that was changed since once more.
function importer() {
  const seen = new Map();
  const resolved = createRequire(`${WORKSPACE}/cell.mjs`);
  const packages = loader() || ((name, options) => import(isBuiltin(name) ? name : pathToFileURL(resolved.resolve(name)).href, options));
  return (name, options) => {
    if (!/^\.{0,2}\//.test(name)) return packages(name, options);
    const file = path.resolve(WORKSPACE, name);
    const url = pathToFileURL(file);
    const now = stamp(file);
    if (!seen.has(file)) seen.set(file, now);
    else if (seen.get(file) !== now) url.search = `?${now}`;
    return import(url.href, options);
  };
}

// Node's own, as if it were called in the workspace, where this Node has it.
function loader() {
  const importModuleDynamically = (vm.constants || {}).USE_MAIN_CONTEXT_DEFAULT_LOADER;
  if (!importModuleDynamically) return undefined;
  const options = { filename: `${WORKSPACE}/cell.mjs`, importModuleDynamically };
  // It says once that it is new, which is nothing to the cells.
  const silently = (work) => {
    const warn = process.emitWarning;
    process.emitWarning = () => {};
    try {
      return work();
    } finally {
      process.emitWarning = warn;
    }
  };
  const load = silently(() => new vm.Script('(name, options) => import(name, options)', options).runInThisContext());
  return (name, options) => silently(() => load(name, options));
}

function stamp(file) {
  const found = fs.statSync(file, { throwIfNoEntry: false });
  return found ? `${found.mtimeMs}-${found.size}` : '';
}

// Modules of the workspace that were changed since they were required are read once more.
const required = new Map();
function forgetChanged() {
  const own = Object.keys(require.cache).filter((file) => file.startsWith(`${WORKSPACE}/`));
  const changed = own.some((file) => required.has(file) && required.get(file) !== stamp(file));
  for (const file of own) {
    if (changed) delete require.cache[file];
    else if (!required.has(file)) required.set(file, stamp(file));
  }
  if (changed) required.clear();
}

// The engine cannot import by itself. Declarations, which only modules may have, become expressions; lines keep their numbers.
function withoutImports(code) {
  const declaration = /^[ \t]*import\s*(?:([\w$]+)\s*(?:,\s*)?)?(?:\*\s*as\s+([\w$]+)\s*|\{([^}]*)\}\s*)?(?:from\s*)?(["'])([^"'\n]+)\4(?:\s*with\s*(\{[^}]*\}))?[ \t]*;?/;
  const other = /\/\/.*|\/\*[^]*?\*\/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\[^]|[^`\\])*`|(?<![.\w$])import(?=\s*\()/;
  const form = new RegExp(isModule(code) ? `${declaration.source}|${other.source}` : other.source, 'gm');
  return code.replace(form, (all, own, every, names, quote, name, attributes) => {
    if (typeof name !== 'string') return all === 'import' ? '__import' : all;
    const call = `await __import(${JSON.stringify(name)}${attributes ? `, { with: ${attributes} }` : ''})`;
    const fields = (names || '').split(',').map((one) => one.trim().replace(/\s+as\s+/, ': ')).filter(Boolean);
    if (own) fields.unshift(`default: ${own}`);
    const lines = '\n'.repeat(all.split('\n').length - 1);
    const spread = fields.length ? `var { ${fields.join(', ')} } = ` : '';
    return `${every ? `var ${every} = ${call}; ${spread && spread + every}` : spread + call};${lines}`;
  });
}

function isModule(code) {
  if (!/^\s*import\b/m.test(code)) return false;
  try {
    new vm.Script(`async () => {${code}\n}`);
    return false;
  } catch (error) {
    return /import/.test(error.message);
  }
}

function evaluate(code, filename) {
  return new Promise((resolve, reject) => {
    const ended = (failed, { result, exceptionDetails } = {}) => {
      if (failed) return reject(failed);
      if (!exceptionDetails) return resolve(held(result));
      const error = held(exceptionDetails.exception);
      if (error instanceof SyntaxError && !String(error.stack).includes(filename)) {
        error.stack = `${error.name}: ${error.message}\n    at ${filename}:${exceptionDetails.lineNumber + 1}:${exceptionDetails.columnNumber + 1}`;
      }
      reject(error);
    };
    const expression = `${withoutImports(code)}\n//# sourceURL=${filename}`;
    const post = () => session.post('Runtime.evaluate', { expression, replMode: true }, ended);
    Object.defineProperty(globalThis, '__post', { value: post, enumerable: false, configurable: true });
    const script = new vm.Script('__post()', { filename: __filename });
    // From the event loop: what runs as a reaction to a promise cannot be interrupted by itself.
    setImmediate(() => {
      try {
        interrupt = reject;
        script.runInThisContext({ breakOnSigint: true });
      } catch (error) {
        reject(error);
      }
    });
  });
}

// What the engine only names.
function held(remote) {
  if (remote.objectId === undefined) {
    return 'unserializableValue' in remote ? vm.runInThisContext(remote.unserializableValue) : remote.value;
  }
  let value;
  Object.defineProperty(globalThis, '__held', { value: (one) => { value = one; }, enumerable: false, configurable: true });
  const functionDeclaration = 'function (one) { globalThis.__held(one); }';
  session.post('Runtime.callFunctionOn', { objectId: remote.objectId, functionDeclaration, arguments: [{ objectId: remote.objectId }] });
  session.post('Runtime.releaseObject', { objectId: remote.objectId });
  return value;
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
    forgetChanged();
    const value = await evaluate(code, `<cell-${cell}>`);
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
process.on('uncaughtException', (error) => fs.writeSync(2, `${stack(error, error)}\n`));
process.on('unhandledRejection', (error) => fs.writeSync(2, `${stack(error, error)}\n`));

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
