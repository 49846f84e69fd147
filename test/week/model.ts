/**
 * What must be in the archive of a cluster, noted down while it lived: each commit with its time and place in the WAL, each
 * restore point, each timeline and what it took over from its parent. The oracle of the week, in none of the archive's words.
 */

export interface Commit {
  readonly row: number;
  readonly timeline: number;
  readonly xid: string;
  /** Where the server stood before the transaction, and behind its commit. */
  readonly before: bigint;
  readonly after: bigint;
  /** Microseconds since 1970, as the server keeps it (track_commit_timestamp). */
  readonly at: number;
}

export interface RestorePoint {
  readonly name: string;
  readonly timeline: number;
  /** Behind its record. */
  readonly lsn: bigint;
}

export interface Branch {
  readonly timeline: number;
  /** Undefined for the first. `rows`: what was committed on the way to the fork. */
  readonly parent?: { readonly timeline: number; readonly forkLsn: bigint; readonly rows: ReadonlySet<number> };
}

export interface TakenBackup {
  readonly id: string;
  readonly timeline: number;
  readonly startLsn: bigint;
  readonly stopLsn: bigint;
  readonly startedAt: string;
  readonly finishedAt: string;
}

export class Model {
  readonly commits: Commit[] = [];
  readonly points: RestorePoint[] = [];
  readonly branches = new Map<number, Branch>([[1, { timeline: 1 }]]);
  /** Those that were not deleted, by id. */
  readonly backups = new Map<string, TakenBackup>();
  /** Until when, in milliseconds; null for ever. */
  readonly pins = new Map<string, number | null>();

  /** Whether this place in the WAL belongs to the history of `timeline`. */
  isOnPath(timeline: number, place: { readonly timeline: number; readonly lsn: bigint }): boolean {
    let until: bigint | undefined;
    for (let branch = this.branches.get(timeline); branch !== undefined;) {
      if (branch.timeline === place.timeline) return until === undefined || place.lsn <= until;
      const { parent } = branch;
      if (parent === undefined) return false;
      until = until === undefined || parent.forkLsn < until ? parent.forkLsn : until;
      branch = this.branches.get(parent.timeline);
    }
    return false;
  }

  /** In the order of the WAL. */
  commitsOn(timeline: number): Commit[] {
    const own = this.commits.filter((commit) => commit.timeline === timeline);
    const parent = this.branches.get(timeline)?.parent;
    if (parent === undefined) return own;
    return [...this.commitsOn(parent.timeline).filter(({ row }) => parent.rows.has(row)), ...own];
  }

  /** Oldest first. */
  backupsOn(timeline: number): TakenBackup[] {
    return [...this.backups.values()]
      .filter((backup) => this.isOnPath(timeline, { timeline: backup.timeline, lsn: backup.stopLsn }))
      .sort((a, b) => (a.stopLsn < b.stopLsn ? -1 : 1));
  }

  /** Those that some backup leads to. */
  reachable(): number[] {
    return [...this.branches.keys()].filter((timeline) => this.backupsOn(timeline).length > 0);
  }

  pointsOn(timeline: number): RestorePoint[] {
    return this.points.filter((point) => this.isOnPath(timeline, point));
  }

  /** That no expiry may touch at this moment. */
  pinned(nowMs: number): string[] {
    return [...this.pins].flatMap(([id, until]) => (until === null || until > nowMs ? [id] : []));
  }
}
