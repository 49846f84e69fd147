/**
 * Servers that do not behave: one that answers each request as a test says, down to the bytes on the socket, and one that
 * stands before a real server and meddles with chosen requests.
 */
import {
  type IncomingHttpHeaders,
  type IncomingMessage,
  type Server as HttpServer,
  type ServerResponse,
  createServer,
  request as httpRequest,
} from "node:http";
import { type AddressInfo, type Server, type Socket } from "node:net";
import { createServer as createTcpServer } from "node:net";
import { openStore } from "../../src/store/open.ts";
import { type Store } from "../../src/store/store.ts";

export const TEST_ENV = { AWS_ACCESS_KEY_ID: "AKIDTEST", AWS_SECRET_ACCESS_KEY: "a-secret-nobody-may-see" };

export interface TestServer extends AsyncDisposable {
  readonly endpoint: string;
  /** A store on it; `query` begins with `&`. */
  store(query?: string): Store;
}

/** Every connection is handed over as it is. */
export async function startTcp(handle: (socket: Socket, connection: number) => void): Promise<TestServer> {
  const sockets = new Set<Socket>();
  let connections = 0;
  const server = createTcpServer((socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => socket.destroy());
    handle(socket, (connections += 1));
  });
  return listening(server, () => sockets.forEach((socket) => socket.destroy()));
}

export interface Answer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  /** Leaves out the ETag, which S3 servers send with every object and after every PUT. */
  readonly isWithoutETag?: true;
}

export interface ScriptedRequest {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  /** Counts from 1. */
  readonly number: number;
}

/** Reads every request to its end and answers it; keeps the requests for the test to look at. */
export async function startAnswering(
  answer: (request: ScriptedRequest) => Answer,
): Promise<TestServer & { readonly requests: readonly string[] }> {
  const requests: string[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const { method = "", url = "", headers } = request;
      requests.push(`${method} ${url}`);
      const given = answer({ method, url, headers, body: Buffer.concat(chunks), number: requests.length });
      const { status, headers: extra = {}, body = "" } = given;
      const usual: Record<string, string> = status === 204 ? {} : { "content-length": String(Buffer.byteLength(body)) };
      if (status < 300 && given.isWithoutETag !== true) usual["etag"] = '"e"';
      response.writeHead(status, { ...usual, ...extra }).end(request.method === "HEAD" ? undefined : body);
    });
  });
  const base = await listening(server, () => server.closeAllConnections());
  return { ...base, requests, [Symbol.asyncDispose]: () => base[Symbol.asyncDispose]() };
}

export type Meddling =
  | { readonly kind: "answer"; readonly answer: Answer }
  /** The server does what it was asked to do; its answer never arrives. */
  | { readonly kind: "lose-answer" }
  /** The request is taken and never answered; the server does not see it. */
  | { readonly kind: "silence" }
  /** One bit of the body is flipped on its way to the server. */
  | { readonly kind: "flip-bit" };

/** `meddle` sees every request before its body and says what to do with it; undefined passes it on. */
export async function startProxy(
  target: string,
  meddle: (request: { method: string; url: string; number: number }) => Meddling | undefined,
): Promise<TestServer & { readonly requests: readonly string[] }> {
  const requests: string[] = [];
  const server = createServer((request, response) => {
    const { method = "", url = "" } = request;
    requests.push(`${method} ${url}`);
    const meddling = meddle({ method, url, number: requests.length });
    request.on("error", () => undefined);
    if (meddling?.kind === "silence") return void request.resume();
    if (meddling?.kind === "answer") {
      const { status, body = "" } = meddling.answer;
      request.resume().on("end", () => response.writeHead(status, { "content-length": body.length }).end(body));
      return;
    }
    forward(target, request, response, meddling);
  });
  const base = await listening(server, () => server.closeAllConnections());
  return { ...base, requests, [Symbol.asyncDispose]: () => base[Symbol.asyncDispose]() };
}

function forward(
  target: string,
  request: IncomingMessage,
  response: ServerResponse,
  meddling: Meddling | undefined,
): void {
  const onward = httpRequest(
    new URL(request.url ?? "/", target),
    { method: request.method ?? "GET", headers: request.headers },
    (answer) => {
      if (meddling?.kind === "lose-answer") {
        answer.resume().on("end", () => response.destroy());
        return;
      }
      response.writeHead(answer.statusCode ?? 500, answer.headers);
      answer.pipe(response);
    },
  );
  onward.on("error", () => response.destroy());
  let isFirst = true;
  request.on("data", (chunk: Buffer) => {
    if (isFirst && meddling?.kind === "flip-bit") chunk[0] = (chunk[0] ?? 0) ^ 1;
    isFirst = false;
    onward.write(chunk);
  });
  request.on("end", () => onward.end());
}

/** The answer to a DeleteObjects request that deletes all of its keys. */
export function deletedAll(request: ScriptedRequest): Answer {
  const keys = [...request.body.toString().matchAll(/<Key>(.*?)<\/Key>/g)].map(([, key]) => key ?? "");
  const entries = keys.map((key) => `<Deleted><Key>${key}</Key></Deleted>`);
  return { status: 200, body: `<DeleteResult>${entries.join("")}</DeleteResult>` };
}

/** The documents that begin and complete an upload. */
export const UPLOAD_BEGUN =
  '<?xml version="1.0" encoding="UTF-8"?>\n<InitiateMultipartUploadResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">' +
  "<UploadId>id&amp;1</UploadId></InitiateMultipartUploadResult>";
export const UPLOAD_COMPLETED =
  '<?xml version="1.0" encoding="UTF-8"?>\n<CompleteMultipartUploadResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">' +
  "<ETag>&quot;e-2&quot;</ETag></CompleteMultipartUploadResult>";

async function listening(server: Server | HttpServer, disconnect: () => void): Promise<TestServer> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const stores: Store[] = [];
  return {
    endpoint,
    store: (query = "") => {
      const store = openStore(`s3://bucket/p?endpoint=${endpoint}${query}`, { env: TEST_ENV });
      stores.push(store);
      return store;
    },
    [Symbol.asyncDispose]: async () => {
      for (const store of stores) await store.close();
      disconnect();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}
