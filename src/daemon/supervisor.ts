/**
 * Starts, stops and changes the clusters of the process, each by itself. With several clusters, none can end the
 * process or hold up another. A single cluster ends the process with its own error.
 */
import type { Log } from "../log.ts";
import { onAbort } from "../signals.ts";
import { Member, type MemberOptions } from "./member.ts";
import { type Change, changeOf, type ClusterPlan, collide, jobsChange } from "./plan.ts";

export interface SupervisorOptions extends Omit<MemberOptions, "plan"> {
  readonly stop: AbortSignal;
}

/** The changes of a reload, by the names of the clusters. */
export interface Changes {
  readonly started: readonly string[];
  readonly stopped: readonly string[];
  readonly restarted: readonly string[];
  readonly rescheduled: readonly string[];
  readonly untouched: readonly string[];
}

export class Supervisor {
  readonly #options: SupervisorOptions;
  #members = new Map<string, Member>();
  /** Taken out of the file, and not gone yet. */
  readonly #leaving = new Set<Member>();
  /** Rejects with what ended the only cluster. */
  readonly #fatal: Promise<never>;
  #endAll: (error: unknown) => void = () => undefined;
  #isClosing = false;

  constructor(options: SupervisorOptions) {
    this.#options = options;
    this.#fatal = new Promise((_, reject) => (this.#endAll = reject));
    this.#fatal.catch(() => undefined);
  }

  /** In the order of the file. */
  get members(): readonly Member[] {
    return [...this.#members.values()];
  }

  /**
   * Runs these clusters until the stop signal; then all are stopped in parallel. Rejects with what ended the only cluster,
   * or with what one of them could not store.
   */
  async run(plans: readonly ClusterPlan[]): Promise<void> {
    const { stop } = this.#options;
    for (const plan of plans) this.#start(plan);
    try {
      await Promise.race([abortOf(stop), this.#fatal]);
    } finally {
      this.#isClosing = true;
    }
    const all = [...this.members, ...this.#leaving];
    const ends = await Promise.allSettled(all.map(async (member) => this.#stopped(member)));
    const failed = ends.find((end) => end.status === "rejected");
    if (failed !== undefined) throw failed.reason;
  }

  /** Says what the next configuration changes, and does it; resolves when all of it is done. Never rejects. */
  change(plans: readonly ClusterPlan[]): { readonly changes: Changes; readonly done: Promise<void> } {
    const before = this.#members;
    const changed = new Map<string, Change>();
    for (const plan of plans) {
      const member = before.get(plan.name);
      if (member !== undefined) changed.set(plan.name, changeOf(member.plan, plan));
    }
    const names = (wanted: Change): string[] => [...changed].filter(([, it]) => it === wanted).map(([name]) => name);
    const leaving = [...before.values()].filter(({ plan }) => !plans.some(({ name }) => name === plan.name));
    const changes: Changes = {
      started: plans.map(({ name }) => name).filter((name) => !before.has(name)),
      stopped: leaving.map(({ plan }) => plan.name),
      restarted: names("receiver"),
      rescheduled: names("routine"),
      untouched: names("none"),
    };
    return { changes, done: this.#carryOut(plans, changed, leaving) };
  }

  async #carryOut(
    plans: readonly ClusterPlan[],
    changed: ReadonlyMap<string, Change>,
    leaving: readonly Member[],
  ): Promise<void> {
    for (const member of leaving) {
      this.#members.delete(member.plan.name);
      this.#leaving.add(member);
    }
    const gone = new Map(leaving.map((member) => [member, this.#left(member)]));
    const work = plans.map(async (plan) => {
      const member = this.#members.get(plan.name);
      const change = changed.get(plan.name);
      if (member !== undefined && change !== "receiver") {
        if (change === "routine" || jobsChange(member.plan, plan)) member.retune(plan);
        member.hurry();
        return;
      }
      // A cluster that is being stopped may still hold the slot, the spool or the name of this one.
      const inTheWay = leaving.filter((other) => collide(other.plan, plan)).map((other) => gone.get(other));
      await Promise.all([...inTheWay, member === undefined ? undefined : this.#letGo(member)]);
      this.#start(member === undefined ? plan : this.#nextPlan(member, plan));
    });
    await Promise.all([...work, ...gone.values()]);
    const order = plans.flatMap(({ name }) => this.#members.get(name) ?? []);
    this.#members = new Map(order.map((member) => [member.plan.name, member]));
  }

  /** WAL that was acknowledged and lies in the spool alone is not left behind there: that would be a gap in the archive. */
  #nextPlan(member: Member, plan: ClusterPlan): ClusterPlan {
    const { spoolDir } = member.plan.settings;
    if (spoolDir === undefined || spoolDir === plan.settings.spoolDir) return plan;
    const { isUploaded, uploadedLsn, storedLsn } = member.status();
    if (isUploaded !== false) return plan;
    const facts = { spoolDir, uploadedLsn, storedLsn };
    const message =
      "the spool holds WAL that the store has not: this cluster goes on as it was; reload again when it has";
    this.#logOf(plan).error(message, facts);
    return member.plan;
  }

  async #left(member: Member): Promise<void> {
    await this.#letGo(member);
    this.#leaving.delete(member);
  }

  /** Logs WAL that could not be stored, since the process goes on. */
  async #letGo(member: Member): Promise<void> {
    const log = this.#logOf(member.plan);
    await member.stop().catch((error: unknown) => log.error("stopped, but not in order", { error }));
  }

  async #stopped(member: Member): Promise<void> {
    try {
      await member.stop();
    } catch (error) {
      if (this.#options.isOneOfSeveral) this.#logOf(member.plan).error("stopped, but not in order", { error });
      throw error;
    }
  }

  #logOf(plan: ClusterPlan): Log {
    const { log, isOneOfSeveral } = this.#options;
    return isOneOfSeveral ? log.child("cluster", { cluster: plan.name }) : log;
  }

  #start(plan: ClusterPlan): void {
    if (this.#isClosing) return;
    const member = new Member({ ...this.#options, plan, log: this.#logOf(plan) });
    this.#members.set(plan.name, member);
    if (this.#options.isOneOfSeveral) return;
    member.ended.catch((error: unknown) => {
      // One that a reload has stopped, or that is being stopped with the process, is waited for elsewhere.
      if (this.#members.get(plan.name) === member && !member.isStopping) this.#endAll(error);
    });
  }
}

function abortOf(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => void onAbort(signal, resolve));
}
