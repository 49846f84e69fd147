/** Before the first test of a run: `dist` is up to date, leftovers of killed runs are gone, shared services can be asked for. */
import { buildChanged } from "./build.ts";
import { provideClock } from "./calendar.ts";
import { provideRunKeys } from "./encryption.ts";
import { type PythonTool, providePythonTool, remedyFor as remedyForTool } from "./other-tools.ts";
import { isOnNpm, wantedVersions, WITHOUT_VERSIONS } from "./postgres-binaries.ts";
import { provideDebianPostgres } from "./postgres-debian.ts";
import { removeStaleServers } from "./postgres-process.ts";
import { providePrometheus } from "./prometheus.ts";
import { provideRclone } from "./rclone.ts";
import { lastLines } from "./reporter.ts";
import { RUN_DIR, RunServices } from "./run-services.ts";
import { type OtherS3, provideOtherS3, remedyFor } from "./s3-others.ts";
import { provideS3 } from "./s3-provider.ts";
import { providePrograms } from "./programs.ts";
import { provideSsh } from "./ssh.ts";
import { dropOldCaches, removeTree, staleTempDirs } from "./temp.ts";

export default async function setup(): Promise<() => Promise<void>> {
  await buildChanged();
  await removeStaleServers();
  // Servers are ended first, above: what is left of any kind is only files.
  for (const folder of staleTempDirs()) removeTree(folder);
  dropOldCaches();
  const services = await RunServices.open({
    s3: async () => {
      const { access, stop } = await provideS3();
      lastLines.noteS3(access);
      return { answer: access, stop };
    },
    versitygw: () => otherS3("versitygw"),
    moto: () => otherS3("moto"),
    rclone: async () => {
      const access = await provideRclone();
      lastLines.noteRclone(access);
      return { answer: access, stop: async () => undefined };
    },
    programs: async () => {
      const access = await providePrograms();
      lastLines.notePrograms(access);
      return { answer: access, stop: async () => undefined };
    },
    barman: () => pythonTool("barman"),
    "wal-e": () => pythonTool("wal-e"),
    ssh: async () => {
      const access = await provideSsh();
      lastLines.noteSsh(access);
      return { answer: access, stop: async () => undefined };
    },
    prometheus: async () => {
      const access = await providePrometheus();
      lastLines.notePrometheus(access);
      return { answer: access, stop: async () => undefined };
    },
    clock: async () => {
      const access = await provideClock();
      lastLines.noteClock(access);
      return { answer: access, stop: async () => undefined };
    },
    browser: async () => {
      // The driver takes a moment to load, and most runs need no browser.
      const { provideBrowser } = await import("./browser.ts");
      const { access, stop } = await provideBrowser();
      lastLines.noteBrowser(access);
      return { answer: access, stop };
    },
  });
  process.env[RUN_DIR] = services.folder;
  await provideRunKeys(services.folder);
  process.env[WITHOUT_VERSIONS] = (await missingVersions()).join(",");
  return async () => services[Symbol.asyncDispose]();
}

/** Versions that npm lacks come from Debian's packages, once; tests know which to run before they run. */
async function missingVersions(): Promise<number[]> {
  const missing: number[] = [];
  for (const version of wantedVersions().filter((one) => !isOnNpm(one))) {
    const found = await provideDebianPostgres(version);
    if (!("unavailable" in found)) continue;
    lastLines.noteVersion(version, found.unavailable);
    missing.push(version);
  }
  return missing;
}

async function otherS3(kind: OtherS3) {
  const { access, stop } = await provideOtherS3(kind);
  lastLines.noteS3(access, [remedyFor(kind)]);
  return { answer: access, stop };
}

async function pythonTool(tool: PythonTool) {
  const access = await providePythonTool(tool);
  lastLines.noteTool(tool, access, remedyForTool(tool));
  return { answer: access, stop: async () => undefined };
}
