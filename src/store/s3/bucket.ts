/**
 * A bucket behind the SDK's client: sends commands and says what the answers mean. Loaded with the first request to a bucket,
 * because importing the SDK takes longer than a `restore_command` for a file that is there already.
 */
import {
  HeadObjectCommand,
  ListObjectsV2Command,
  type ListObjectsV2CommandInput,
  type S3ClientResolvedConfig,
  type ServiceInputTypes,
  type ServiceOutputTypes,
} from "@aws-sdk/client-s3";
import type { Command } from "@smithy/types";
import type { ErrorCode } from "../../error-kinds.ts";
import { SeawallError } from "../../errors.ts";
import { sharedController } from "../../signals.ts";
import { waitFor } from "../signal.ts";
import { type Environment, type S3Account, openAccount } from "./account.ts";
import { parseError } from "./document.ts";
import { type FailedResponse, type S3Right, clockOffsetOf, isExpiry, responseError } from "./errors.ts";
import type { Answer, SendOptions } from "./handler.ts";
import { QuickPut } from "./quick-put.ts";
import { type ListPage, pageOf } from "./list.ts";
import { type S3Settings } from "./url.ts";

/** A smaller difference is no reason to refuse a request. */
const CLOCK_MS_MIN = 60_000;

const NO_OBJECTS = Buffer.from(
  "<ListBucketResult><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated></ListBucketResult>",
);

export interface Asking {
  /** For messages: `put wal/x`. */
  readonly what: string;
  readonly right: S3Right;
  readonly signal: AbortSignal | undefined;
  readonly options?: Pick<SendOptions, "bodyBytesMax" | "isStreamed">;
}

/** The SDK's output, or the refusal: an answer that is not the one that was asked for. */
export type Outcome<Output> =
  | { readonly output: Output; readonly answer: Answer; readonly refusal?: undefined }
  | { readonly output?: undefined; readonly answer?: undefined; readonly refusal: Refusal };

export interface Refusal {
  readonly status: number;
  readonly answer: Answer;
  /** How far the request's date was ahead of this machine's clock. */
  readonly offsetMs: number;
}

type S3Command<Input extends ServiceInputTypes, Output extends ServiceOutputTypes> = Command<
  ServiceInputTypes,
  Input,
  ServiceOutputTypes,
  Output,
  S3ClientResolvedConfig
>;

export class S3Bucket {
  readonly settings: S3Settings;
  readonly quickPut: QuickPut;
  readonly #account: S3Account;
  readonly #closing = sharedController();
  #mustRenew = false;

  private constructor(settings: S3Settings, account: S3Account) {
    this.settings = settings;
    this.#account = account;
    this.quickPut = new QuickPut(account, settings);
  }

  /** Finds endpoint and region; sends nothing to the bucket. */
  static async open(settings: S3Settings, env: Environment): Promise<S3Bucket> {
    return new S3Bucket(settings, await openAccount(settings, env));
  }

  /** Sends one command, once. Rejects with SeawallError when there is no answer. */
  async ask<Input extends ServiceInputTypes, Output extends ServiceOutputTypes>(
    command: S3Command<Input, Output>,
    { what, signal, options }: Omit<Asking, "right">,
  ): Promise<Outcome<Output>> {
    const { client } = this.#account;
    const signals = [signal, this.#closing.signal];
    // A source of credentials takes no signal, so the wait for it heeds them here.
    await waitFor(this.#renewed(), { signals });
    const offsetMs = client.config.systemClockOffset;
    let answer: Answer | undefined;
    const sending: SendOptions = { what, ...options, onAnswer: (received) => (answer = received) };
    const sendOptions = signal === undefined ? sending : { ...sending, abortSignal: signal };
    try {
      const output = await waitFor(client.send(command, sendOptions), { signals });
      if (answer === undefined) throw new SeawallError("internal", `${what}: the SDK gave a result without an answer`);
      return { output, answer };
    } catch (error) {
      if (answer === undefined || error instanceof SeawallError) throw failureOf(what, error);
      return { refusal: { status: answer.statusCode, answer, offsetMs } };
    }
  }

  /** Like `ask`, and throws the error for any other answer. */
  async send<Input extends ServiceInputTypes, Output extends ServiceOutputTypes>(
    command: S3Command<Input, Output>,
    asking: Asking,
  ): Promise<Output> {
    const { output, refusal } = await this.ask(command, asking);
    if (refusal !== undefined) throw this.failure(asking, refusal);
    return output;
  }

  /** The error for an answer. An answer that says that the credentials have run out makes the next request ask for others. */
  failure({ what, right }: Pick<Asking, "what" | "right">, refusal: Refusal): SeawallError {
    const { answer } = refusal;
    const failed = { status: answer.statusCode, headers: answer.headers, body: textOf(answer) };
    const now = new Date();
    const place = { bucket: this.settings.bucket, endpoint: answer.origin };
    return responseError(what, failed, { place, now, code: this.#learn(failed, refusal, now), right });
  }

  /** The error for one key of an answer about many; `code` is S3's. */
  keyFailure({ what, right }: Pick<Asking, "what" | "right">, code: string, { origin }: Answer): SeawallError {
    const failed = { status: 500, headers: {}, body: `<Error><Code>${code}</Code></Error>` };
    const place = { bucket: this.settings.bucket, endpoint: origin };
    return responseError(what, failed, { place, now: new Date(), right });
  }

  /** The error for an answer with status 200 that is no page of a listing. */
  pageFailure({ what, right }: Pick<Asking, "what" | "right">, { origin }: Answer): SeawallError {
    const place = { bucket: this.settings.bucket, endpoint: origin };
    return responseError(what, { status: 200, headers: {}, body: "" }, { place, now: new Date(), right });
  }

  /** Returns the code of an error for which this client has its own meaning. */
  #learn(failed: FailedResponse, { offsetMs }: Refusal, now: Date): ErrorCode | undefined {
    if (isExpiry(failed)) {
      if (this.#account.isFixed) return "store-denied";
      this.#mustRenew = true;
    }
    const theirs = clockOffsetOf(failed, now);
    // A request with the server's own time was refused, so the clock is not the cause. Otherwise the SDK corrects the next date.
    if (theirs === undefined || Math.abs(theirs - offsetMs) < CLOCK_MS_MIN) return undefined;
    return "store-unavailable";
  }

  /** One page of a listing, whose keys are all below the prefix that was asked for. */
  async list(
    input: Omit<ListObjectsV2CommandInput, "Bucket"> & { readonly Prefix: string },
    asking: Omit<Asking, "right">,
  ): Promise<Outcome<ListPage>> {
    const command = new ListObjectsV2Command({ ...input, Bucket: this.settings.bucket });
    const { output, refusal, answer } = await this.ask(command, asking);
    if (refusal !== undefined) return { refusal };
    const page = pageOf(output, input.Prefix);
    if (page === undefined) throw new SeawallError("internal", `${asking.what}: an unchecked page`);
    return { output: page, answer };
  }

  /** The same, not read yet: the SDK is given an empty page in its place. */
  async listRaw(
    input: Omit<ListObjectsV2CommandInput, "Bucket"> & { readonly Prefix: string },
    asking: Omit<Asking, "right">,
  ): Promise<Outcome<Uint8Array>> {
    const command = new ListObjectsV2Command({ ...input, Bucket: this.settings.bucket });
    let body: Uint8Array = NO_OBJECTS;
    command.middlewareStack.add(
      (next) => async (args) => {
        const result = await next(args);
        const answer = result.response as Answer; // The client's handler is a DeadlineHandler.
        if (answer.statusCode === 200 && answer.body instanceof Uint8Array) {
          body = answer.body;
          answer.body = NO_OBJECTS;
        }
        return result;
      },
      { step: "deserialize", priority: "low", name: "seawallRaw" },
    );
    const { refusal, answer } = await this.ask(command, asking);
    return refusal === undefined ? { output: body, answer } : { refusal };
  }

  /** Undefined when a healthy server says that the key is absent; anything else, a missing bucket too, is thrown. */
  async absentOrFailure(asking: Asking, refusal: Refusal, isRead = true): Promise<undefined> {
    const body = textOf(refusal.answer);
    const code = parseError(body)?.code;
    if (refusal.status === 404 && code === "NoSuchKey") return undefined;
    if (isRead && refusal.status === 403 && (code === "AccessDenied" || body === "")) {
      return this.#absentOrRefused(asking, refusal);
    }
    throw this.failure(asking, refusal);
  }

  /**
   * S3 tells an absent key from a refusal only to an account that may list the whole bucket. One that may list below a
   * prefix (a condition on `s3:prefix`) gets 403 for both, so the key is listed.
   */
  async #absentOrRefused(asking: Asking, refusal: Refusal): Promise<undefined> {
    const { what, right, signal } = asking;
    const { key } = right;
    const listing: Asking = { what, right: { action: "s3:ListBucket", key }, signal };
    const { output: page, refusal: unlisted } = await this.list({ Prefix: key, MaxKeys: 1 }, listing);
    if (page === undefined) {
      throw unlisted.status === 403 ? this.failure(listing, refusal) : this.failure(listing, unlisted);
    }
    if (page.objects.every((object) => object.key !== key)) return undefined;
    const again = await this.ask(new HeadObjectCommand({ Bucket: this.settings.bucket, Key: key }), { what, signal });
    if (again.output === undefined) throw this.failure(asking, refusal);
    // The key may be read, so the first answer meant "absent"; the object was stored meanwhile.
    return undefined;
  }

  /** Ends every connection; requests under way end as `aborted`. */
  close(): void {
    this.#closing.abort();
    this.#account.close();
  }

  async #renewed(): Promise<void> {
    if (!this.#mustRenew) return;
    this.#mustRenew = false;
    try {
      await this.#account.client.config.credentials({ forceRefresh: true });
    } catch (error) {
      this.#mustRenew = true;
      throw error;
    }
  }
}

function failureOf(what: string, error: unknown): SeawallError {
  if (!(error instanceof SeawallError)) {
    return new SeawallError("store-unsupported", `${what}: the AWS SDK cannot make this request`, {
      cause: error,
      hint: "Check bucket, region= and endpoint= in the store's URL.",
    });
  }
  // The SDK adds the number of its tries to every error.
  Reflect.deleteProperty(error, "$metadata");
  return error;
}

function textOf({ body }: Answer): string {
  return body instanceof Uint8Array ? Buffer.from(body.buffer, body.byteOffset, body.length).toString() : "";
}
