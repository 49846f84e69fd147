/** Prepares the site for the examples of the help: each stands for itself. page-preparations.ts has what other pages need too. */
import type { PageBlock } from "./page-blocks.ts";
import type { Names } from "./page-names.ts";
import { otherCluster, type Preparation, preparationOf, type Prepare, severalClusters } from "./page-preparations.ts";
import type { PageSite } from "./page-site.ts";

const NAMES = (site: PageSite): Names => [
  [/0000000100000000000000\d\d/, site.segment],
  ["/usr/lib/postgresql/17/bin", site.server.binDir],
  ["16/B374D848", site.lsn],
];

/** By a part of the example; the first that fits. */
const PREPARATIONS: readonly (readonly [RegExp, Prepare])[] = [
  [/^seawall init$/, () => ({ names: [[/$/, " || [ $? = 2 ]"]] })],
  [/^seawall slot create/, slotsAfterwards],
  [/^seawall slot drop/, freeSlot],
  [/^seawall cluster remove .*--confirm/, unreceivedCluster],
  [/0badcafe/, knownBackup],
  [/^seawall rekey/, identities],
  [/--identity seawall-identity\.txt/, identity],
  [/--from-standby/, standby],
  [/^seawall restore --check/, startedCopy],
  [
    /^seawall wal-prefetch/,
    () => ({
      first: "mkdir pg_wal",
      names: [
        [/^/, "timeout 20 "],
        [/$/, " || [ $? = 124 ]"],
      ],
    }),
  ],
  [/^seawall (?:check|status|verify|notify-test) .*clusters\.yaml/, severalClusters],
  [/notify-command|NOTIFY_URL/, channel],
  [/^(?:source|seawall completion)/, folders],
];

export async function exampleOf(block: PageBlock, site: PageSite): Promise<Preparation> {
  const [, prepare] = PREPARATIONS.find(([part]) => part.test(block.text.trim())) ?? [];
  const { names = [], ...rest } = prepare === undefined ? await preparationOf(block, site) : await prepare(site, block);
  return { ...rest, names: [...names, ...NAMES(site)] };
}

function slotsAfterwards(site: PageSite): Preparation {
  const drops = [
    `--slot archive_a --if-exists`,
    `--config ${site.path("/etc/clusters.yaml")} --cluster orders --if-exists`,
  ];
  return { after: async () => void (await site.shell(drops.map((flags) => `seawall slot drop ${flags}`).join("\n"))) };
}

/** No receiver uses the slot. */
async function freeSlot(site: PageSite): Promise<Preparation> {
  await site.stopReceiving();
  return {};
}

async function unreceivedCluster(site: PageSite): Promise<Preparation> {
  await site.stopReceiving();
  return otherCluster(site);
}

async function knownBackup(site: PageSite): Promise<Preparation> {
  const id = await site.shell(`seawall list --config ${site.config} --json | jq -r '.backups[-2].id'`);
  return { names: [["20260203T040506Z-0badcafe", id.trim()]] };
}

function identities(): Preparation {
  const keygen = ["old.txt", "new.txt"].map((file) => `seawall keygen --output ${file} >&2`);
  return { first: [...keygen, "sed -n 's/^# public key: //p' new.txt > new-recipients.txt"].join("\n") };
}

/** The server of a drill may run as another account. */
function identity(): Preparation {
  return { first: "seawall keygen >&2; chmod 644 seawall-identity.txt" };
}

async function standby(site: PageSite): Promise<Preparation> {
  const copy = await site.server.cloneAsStandby();
  const after = async (): Promise<void> => copy[Symbol.asyncDispose]();
  // Not as a URI: that would be replaced by the site's own.
  const dsn = `port=${copy.port} host=127.0.0.1 user=postgres`;
  return { names: [["'host=db2,db3 user=repl'", `'${dsn}'`]], after };
}

/** A restored server runs in place of the site's. */
async function startedCopy(site: PageSite): Promise<Preparation> {
  await site.stopProduction();
  const path = "/var/lib/postgresql/data";
  await site.shell(`seawall restore --config ${site.config} --target-dir ${site.path(path)}`);
  await site.startCopy(path);
  return {};
}

function channel(site: PageSite): Preparation {
  site.write("/usr/local/bin/on-seawall", "#!/bin/sh\ncat >/dev/null\n", 0o755);
  return { names: [[/https:\/\/\S+/, site.hook]] };
}

/** The folders of the shells' completions. */
function folders(site: PageSite): Preparation {
  const own = ["/etc/bash_completion.d", "/usr/local/share/zsh/site-functions"].map((folder) => site.path(folder));
  return { first: `mkdir -p ${own.join(" ")} ~/.config/fish/completions` };
}
