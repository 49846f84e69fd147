/** docs/s3-rights.md, made from the table of S3 rights. */
import { policyOf, rightsOfRole, S3_RIGHTS, S3_ROLES, type S3Place, type S3Right, type S3Role } from "./s3-rights.ts";

const EXAMPLE: S3Place = { bucket: "wal", prefix: "prod", cluster: "main" };

/** Without the line that says where it is made. */
export function s3RightsPage(): string {
  const rows = Object.entries(S3_RIGHTS).map(
    ([command, rights]) =>
      `| \`${command}\` | ${cell(rights.filter(({ when }) => when === undefined))} | ${optional(rights)} |`,
  );
  return `
# S3 rights

\`\`\`
seawall check --store 's3://wal/prod?region=eu-central-1' --cluster main    # tries the rights that \`receive\` needs most
\`\`\`

Give each account the policy of its role. The policies below are for the store \`s3://wal/prod\` and the cluster \`main\`: replace
\`wal\`, \`prod\` and \`main\`. They are identity policies. In a bucket policy each statement also names the account as its
\`Principal\`.

${S3_ROLES.map(roleSection).join("\n")}
A daemon with schedules runs its jobs as its own account: give that account the policies of receiver and jobs.

## What does each command need?

Keys are below the store's prefix, and \`CLUSTER\` is the cluster's name. A run fails without a right of the second column, and the
error names it. The rights of the third column are used in the case that the table gives.

| command | always | sometimes |
| --- | --- | --- |
${rows.join("\n")}

\`expire\` passes over objects that it may not delete, and names them with the missing right. \`verify\` and \`drill\` say in a note
that their result is not recorded; then \`seawall status\` does not know of it.

A test runs each command with exactly these rights, and with each of them missing, on Ceph and versitygw.

## Why \`s3:ListBucket\`?

Seawall lists below \`PREFIX/CLUSTER/\` only, so a condition on \`s3:prefix\` does no harm. Without the right S3 answers 403 where it
should say that an object is absent. With the right under a condition it answers 403 as well; then Seawall lists the one key to
learn whether it is absent.

## What differs between servers?

- Ceph 16 asks for \`s3:DeleteObject\` on the bucket to delete many objects in one request. Where that is refused, Seawall deletes
  them one by one.
- With \`sse=aws:kms\` the account also needs \`kms:GenerateDataKey\` to write and \`kms:Decrypt\` to read.
`;
}

function roleSection(role: S3Role): string {
  const commands = role.commands.map((command) => `\`${command}\``).join(", ");
  const document = { Version: "2012-10-17", Statement: policyOf(rightsOfRole(role), EXAMPLE) };
  return `## The role ${role.name}

It ${role.does}: ${commands}.

\`\`\`json
${JSON.stringify(document, undefined, 2)}
\`\`\`
`;
}

/** Actions with their places: \`s3:PutObject\` on \`…\`, \`…\`. */
function cell(rights: readonly S3Right[]): string {
  const actions = [...new Set(rights.map(({ action }) => action))];
  return actions
    .map((action) => {
      const places = rights.filter((right) => right.action === action).map(({ on }) => `\`${on}\``);
      return `\`${action}\` on ${places.join(", ")}`;
    })
    .join("; ");
}

function optional(rights: readonly S3Right[]): string {
  const cases = [...new Set(rights.flatMap(({ when }) => (when === undefined ? [] : [when])))];
  return cases.map((when) => `${when}: ${cell(rights.filter((right) => right.when === when))}`).join(";<br>");
}
