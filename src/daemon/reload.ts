/**
 * Reloads the configuration while everything runs: the whole file is read and checked first, and with an error nothing
 * changes. One reload runs at a time; a request during a reload causes one more.
 */
import { SeawallError } from "../errors.ts";
import { type RootLog, shownError } from "../log.ts";
import type { Doors } from "./http/listener.ts";
import type { Configuration } from "./plan.ts";
import type { ConfigurationView } from "./status/document.ts";
import type { Supervisor } from "./supervisor.ts";

export interface ReloadOptions {
  readonly configuration: Configuration;
  /** Reads the file again. Throws `usage`. */
  readonly load: () => Promise<Configuration>;
  /** Applies what was loaded to what the process shares. */
  readonly onLoaded: (configuration: Configuration) => void;
  readonly supervisor: Pick<Supervisor, "change">;
  readonly doors: Pick<Doors, "change">;
  readonly log: RootLog;
  readonly stop: AbortSignal;
}

export class Reloads {
  readonly #options: ReloadOptions;
  #configuration: Configuration;
  #view: ConfigurationView;
  #isAsked = false;
  #running: Promise<void> | undefined;

  constructor(options: ReloadOptions) {
    this.#options = options;
    this.#configuration = options.configuration;
    this.#view = { file: options.configuration.file ?? null, loadedAt: new Date().toISOString(), error: null };
  }

  view(): ConfigurationView {
    return this.#view;
  }

  request(): void {
    const { log } = this.#options;
    if (this.#configuration.file === undefined) {
      log.warn("there is no file to reload: everything was given by flags and environment");
      return;
    }
    this.#isAsked = true;
    this.#running ??= this.#reloadWhileAsked();
  }

  /** Nothing is under way any more. */
  async settled(): Promise<void> {
    await this.#running;
  }

  async #reloadWhileAsked(): Promise<void> {
    const { stop, log } = this.#options;
    while (this.#isAsked && !stop.aborted) {
      this.#isAsked = false;
      try {
        await this.#reload();
      } catch (error) {
        this.#view = { ...this.#view, error: shownError(error, Date.now()) };
        log.error("the configuration could not be reloaded: everything goes on as it was", { error });
      }
    }
    this.#running = undefined;
  }

  async #reload(): Promise<void> {
    const { load, supervisor, doors, log, onLoaded } = this.#options;
    const before = this.#configuration;
    log.info("reloading the configuration", { file: before.file });
    const next = await load();
    refuseOtherShape(before, next);
    // The one step that may still fail.
    await doors.change(next.listen);
    this.#configuration = next;
    this.#view = { ...this.#view, loadedAt: new Date().toISOString(), error: null };
    log.setLevel(next.logLevel);
    if (next.logFormat !== before.logFormat) log.warn("another log-format needs a restart: it stays as it is");
    onLoaded(next);
    const { changes, done } = supervisor.change(next.clusters);
    log.info("the configuration is loaded", { ...changes });
    await done;
  }
}

function refuseOtherShape(before: Configuration, next: Configuration): void {
  if (before.several !== next.several) {
    throw new SeawallError("usage", `clusters: was ${next.several ? "put into" : "taken out of"} the file`, {
      hint: "Restart the receiver for that: it is another kind of service.",
    });
  }
  const [was, is] = [before.clusters[0]?.name, next.clusters[0]?.name];
  if (!next.several && was !== is) {
    throw new SeawallError("usage", `cluster: was "${was}" and is "${is}" now`, {
      hint: "Restart the receiver for that, or put both below clusters:.",
    });
  }
}
