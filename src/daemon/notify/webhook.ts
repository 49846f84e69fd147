/**
 * The webhook: one POST a try, over its own connection. Redirects are not followed, because the header would follow
 * them, and only the beginning of the answer is read.
 *
 * Sources: RFC 9110 (15.5.9 and 15.6 on what may be tried again, 10.2.3 Retry-After), RFC 6585 (429).
 */
import type { IncomingMessage, RequestOptions } from "node:http";
import { http } from "../../node-http.ts";
import { deadline } from "../../signals.ts";
import type { Attempt, Deliver, Message } from "./attempt.ts";

export interface WebhookOptions {
  /** http or https; user and password in it become an Authorization header. */
  readonly url: string;
  /** `Name: value`. */
  readonly header: string | undefined;
  readonly version: string;
  readonly timeoutMs?: number;
  readonly nowMs: () => number;
}

export const WEBHOOK_TIMEOUT_MS = 10_000;
const ANSWER_BYTES_MAX = 64 << 10;
const RETRY_AFTER_MS_MAX = 10 * 60_000;

export function webhook(options: WebhookOptions): Deliver {
  return async (message, signal) => {
    const timeoutMs = options.timeoutMs ?? WEBHOOK_TIMEOUT_MS;
    using limit = deadline(timeoutMs, signal);
    try {
      const { status, retryAfter, text } = await post(options, message, limit.signal);
      return judge(status, { retryAfter, text, nowMs: options.nowMs() });
    } catch (error) {
      if (limit.isOverdue) return { outcome: "again", detail: `no answer within ${timeoutMs / 1000} s` };
      // Node.js names host and port in such an error, and nothing of the path.
      return { outcome: "again", detail: reasonOf(error) };
    }
  };
}

interface Answer {
  readonly status: number;
  readonly retryAfter: string | undefined;
  readonly text: string;
}

async function post(options: WebhookOptions, message: Message, signal: AbortSignal): Promise<Answer> {
  const url = new URL(options.url);
  const colon = options.header?.indexOf(":") ?? -1;
  const extra =
    options.header === undefined ? {} : { [options.header.slice(0, colon)]: options.header.slice(colon + 1).trim() };
  const request: RequestOptions = {
    method: "POST",
    // The connection is not kept: messages are rare.
    agent: false,
    signal,
    headers: {
      "User-Agent": `seawall/${options.version}`,
      Accept: "*/*",
      ...extra,
      "Content-Type": "application/json",
      "Content-Length": Buffer.byteLength(message.body),
    },
  };
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const { request: send } = url.protocol === "https:" ? process.getBuiltinModule("node:https") : http;
    const sent = send(url, request);
    sent.once("response", resolve).on("error", reject).end(message.body);
  });
  const { statusCode: status = 0, headers } = response;
  return { status, retryAfter: headers["retry-after"], text: await beginningOf(response) };
}

/** Reads the beginning of an answer; it counts even if the rest of the body never comes. */
async function beginningOf(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      chunks.push(chunk);
      bytes += chunk.byteLength;
      if (bytes >= ANSWER_BYTES_MAX) break;
    }
  } catch {
    // Cut off, or too slow.
  }
  response.destroy();
  return Buffer.concat(chunks).toString("utf8");
}

function judge(
  status: number,
  {
    retryAfter,
    text,
    nowMs,
  }: Omit<Answer, "status" | "retryAfter"> & { readonly retryAfter: string | undefined; readonly nowMs: number },
): Attempt {
  const said = text.replaceAll(/[\p{Cc}\s]+/gu, " ").trim();
  const detail = `HTTP status ${status}${said === "" ? "" : `: ${said}`}`;
  if (status >= 200 && status < 300) return { outcome: "accepted", detail };
  if (status >= 300 && status < 400)
    return { outcome: "refused", detail: `HTTP status ${status}: redirects are not followed` };
  if (status !== 408 && status !== 429 && status < 500) return { outcome: "refused", detail };
  return { outcome: "again", detail, ...notBefore(retryAfter, nowMs) };
}

/** Seconds, or a date. */
function notBefore(retryAfter: string | undefined, nowMs: number): { readonly notBeforeMs?: number } {
  if (retryAfter === undefined) return {};
  const ms = /^\d+$/.test(retryAfter) ? Number(retryAfter) * 1000 : Date.parse(retryAfter) - nowMs;
  return Number.isNaN(ms) || ms <= 0 ? {} : { notBeforeMs: Math.min(ms, RETRY_AFTER_MS_MAX) };
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const inner = error instanceof AggregateError ? (error.errors[0] as unknown) : undefined;
  return inner instanceof Error ? inner.message : error.message;
}
