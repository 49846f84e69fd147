/**
 * Finds the zstd that this process has: the native package zstd-napi where it loads, otherwise the one in Node.js (from
 * 22.15 and 23.8 on). The package is optional, because it fetches its binary from outside of the registry or compiles it.
 * src/codec/zstd.ts is the seam behind which both do the same work.
 */
import { createRequire } from "node:module";
import type { Transform } from "node:stream";
import * as zlib from "node:zlib";
import { messageOf, SeawallError } from "./errors.ts";

/** Forces one of the two; without it the package is preferred, which is faster on small objects. */
const VARIABLE = "SEAWALL_ZSTD";

export type ZstdLibrary =
  | { readonly name: "zstd-napi"; readonly version: string; readonly binding: ZstdBinding }
  | {
      readonly name: "node";
      /** Version of Node.js. */
      readonly version: string;
      readonly zlib: NodeZstd;
      /** Reason why zstd-napi is not used. */
      readonly instead: string;
    };

/** The part of zstd-napi in use. Numbers are those of zstd.h: return value, bytes produced, bytes consumed. */
export interface ZstdBinding {
  readonly CCtx: new () => CompressionContext;
  readonly DCtx: new () => DecompressionContext;
}
type StreamResult = readonly [number, number, number];

export interface CompressionContext {
  setParameter(parameter: number, value: number): void;
  setPledgedSrcSize(bytes: number): void;
  compress2(target: Uint8Array, raw: Uint8Array): number;
  compressStream2(target: Uint8Array, raw: Uint8Array, directive: number): StreamResult;
}

export interface DecompressionContext {
  decompress(target: Uint8Array, stored: Uint8Array): number;
  decompressStream(target: Uint8Array, stored: Uint8Array): StreamResult;
}

/** The part of `node:zlib` in use; the types of Node.js 20 do not know it yet. */
export interface NodeZstd {
  zstdCompressSync(raw: Uint8Array, options: NodeZstdOptions): Buffer<ArrayBuffer>;
  zstdDecompressSync(stored: Uint8Array, options: NodeZstdOptions): Buffer<ArrayBuffer>;
  createZstdCompress(options: NodeZstdOptions): Transform;
  createZstdDecompress(options: NodeZstdOptions): Transform;
}

export interface NodeZstdOptions {
  /** Bytes of an output buffer. */
  readonly chunkSize: number;
  readonly maxOutputLength?: number;
  /** Length of the content, for the frame's header. */
  readonly pledgedSrcSize?: number;
  /** Values by the numbers of ZSTD_cParameter. */
  readonly params?: Readonly<Record<number, number>>;
}

let found: ZstdLibrary | undefined;

/** The library of this process, the same at every call. Throws `zstd-missing`, and `usage` for a wrong SEAWALL_ZSTD. */
export function zstdLibrary(): ZstdLibrary {
  return (found ??= findLibrary(process.env[VARIABLE] ?? ""));
}

function findLibrary(wanted: string): ZstdLibrary {
  switch (wanted) {
    case "": {
      const native = loadNative();
      return "binding" in native ? native : fromNode(`zstd-napi is not in use: ${native.failure}`);
    }
    case "zstd-napi": {
      const native = loadNative();
      if ("binding" in native) return native;
      throw new SeawallError("zstd-missing", `${VARIABLE} asks for zstd-napi, which does not load: ${native.failure}`);
    }
    case "node":
      return fromNode(`${VARIABLE} asks for it`);
    default:
      throw new SeawallError("usage", `${VARIABLE} is ${JSON.stringify(wanted)}`, {
        hint: 'Use "zstd-napi" or "node", or unset it.',
      });
  }
}

/** A package that was never installed, has no binary, or has one of another system fails in different ways. */
function loadNative(): Extract<ZstdLibrary, { name: "zstd-napi" }> | { readonly failure: string } {
  const require = createRequire(import.meta.url);
  try {
    // Casts: the package is optional, so the compiler may not have its types; a test compares them with these.
    const binding = require("zstd-napi/binding.js") as ZstdBinding;
    const { version } = require("zstd-napi/package.json") as { readonly version: string };
    return { name: "zstd-napi", version, binding };
  } catch (error) {
    return { failure: messageOf(error).split("\n")[0] ?? "" };
  }
}

function fromNode(instead: string): ZstdLibrary {
  const { version } = process;
  if (!("zstdCompressSync" in zlib)) {
    throw new SeawallError("zstd-missing", `no zstd: Node.js ${version} has none, and ${instead}`);
  }
  // A cast: the functions arrived together.
  return { name: "node", version, zlib: zlib as unknown as NodeZstd, instead };
}
