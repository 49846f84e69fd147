/**
 * A real server that speaks German: the machine's own PostgreSQL, because those from npm bring no message catalogs, in a
 * cluster made by `initdb --locale=de_DE.UTF-8`. What is missing is installed where the tests run as root on Debian.
 */
import { existsSync } from "node:fs";
import { installPackages } from "./apt.ts";
import { systemBinaries } from "./postgres-binaries.ts";
import { type PostgresServer, type Settings, startPostgres } from "./postgres.ts";
import { run } from "./run.ts";

const LOCALE = "de_DE.UTF-8";

export async function startGermanPostgres(
  options: { readonly settings?: Settings; readonly hba?: readonly string[] } = {},
): Promise<PostgresServer> {
  if ((await systemBinaries()) === undefined) {
    await installPackages(["postgresql"], "German messages", "the machine's own PostgreSQL");
  }
  const { stdout } = await run("locale", ["-a"]);
  if (!/^de_DE\.utf-?8$/im.test(stdout)) {
    if (!existsSync("/usr/share/i18n/locales/de_DE")) {
      await installPackages(["locales"], "German messages", "the definition of the locale de_DE");
    }
    await run("localedef", ["-i", "de_DE", "-f", "UTF-8", LOCALE]);
  }
  const server = await startPostgres({
    ...options,
    ...{ system: true, segmentSizeMiB: 1, initdbArgs: [`--locale=${LOCALE}`] },
    settings: { lc_messages: LOCALE, ...options.settings },
  });
  if ((await server.value("SHOW lc_messages")) !== LOCALE) throw new Error("the server does not speak German");
  return server;
}
