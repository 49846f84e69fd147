/**
 * `node:http` without an import of it. An import reads each export, and for one of them, `WebSocket`, Node.js 22 and later load
 * all of fetch: 40 ms of processor time instead of 4. test/cli/loaded-modules.test.ts holds it.
 */
export const http = process.getBuiltinModule("node:http");
