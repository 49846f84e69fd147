/** Checks whether what the archive holds is encrypted, and to whom, against the recipients of `--encrypt-to`. */
import type { Archive } from "../../archive/archive.ts";
import { mustEncrypt, plainHint, readEncryption } from "../../archive/encryption.ts";
import { readProof } from "../../archive/records/last-events.ts";
import { walPrefix } from "../../archive/keys.ts";
import type { Finding } from "./findings.ts";

/** `recipients`: in short; undefined without `--encrypt-to`. */
export async function checkEncryption(
  archive: Archive,
  recipients: readonly string[] | undefined,
  signal: AbortSignal,
): Promise<Finding | undefined> {
  const note = await readEncryption(archive.store, archive.cluster, { signal });
  if (recipients === undefined) return mustEncrypt(note) ? refused(archive, note.to) : undefined;
  if (await beginsPlain(archive, signal)) {
    const message = `the archive has WAL that is not encrypted, and receive encrypts to ${recipients.join(", ")}`;
    const remedy = "What is plain stays plain until it expires. Take a new base backup, then expire the older ones.";
    return { group: "store", name: "encryption", verdict: "warn", message, remedy };
  }
  const message = `receive encrypts to ${recipients.join(", ")}`;
  const proof = await readProof(archive, new Date(), { signal });
  const alone = soleRecipient(recipients);
  if (proof !== undefined && proof.provedAt === null) {
    const unproved = `${alone?.message ?? message}, and no drill has shown that an identity opens a backup`;
    const drill = "Run seawall drill --identity FILE on a machine that has the identity.";
    const remedy = [drill, alone?.remedy ?? []].flat().join(" ");
    return { group: "store", name: "encryption", verdict: "warn", message: unproved, remedy };
  }
  return alone ?? { group: "store", name: "encryption", verdict: "ok", message, remedy: null };
}

/** Warns of one recipient alone, also before the archive exists; undefined for several. */
export function soleRecipient(recipients: readonly string[]): Finding | undefined {
  const [only, ...others] = recipients;
  if (only === undefined || others.length > 0) return undefined;
  const message = `receive encrypts to ${only} alone`;
  const remedy =
    "If this identity is lost, everything is lost. Add a second recipient, and keep its identity elsewhere.";
  return { group: "store", name: "encryption", verdict: "warn", message, remedy };
}

function refused({ cluster, store }: Archive, to: readonly string[]): Finding {
  const message = `receive would be refused: "${cluster}" in ${store.description} is encrypted to ${to.join(", ")}`;
  return { group: "store", name: "encryption", verdict: "fail", message, remedy: plainHint(cluster) };
}

/** The oldest stored segment is plain: what is behind it may be encrypted. */
async function beginsPlain({ store, cluster, codec }: Archive, signal: AbortSignal): Promise<boolean> {
  for await (const { key } of store.list(walPrefix(cluster), { signal })) {
    if (!key.endsWith(".zst")) continue;
    const front = await store.get(key, { signal, range: { offset: 0, length: codec.envelopeBytesMax() } });
    return front !== undefined && !codec.isLocked(front.body);
  }
  return false;
}
