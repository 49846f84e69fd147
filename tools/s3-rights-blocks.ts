/** The blocks of docs/s3-rights.md, made from the table of S3 rights. */
import type { Blocks } from "./generated-blocks.ts";
import {
  policyOf,
  rightsOfRole,
  S3_RIGHTS,
  S3_ROLES,
  type S3Place,
  type S3Right,
  type S3Role,
} from "../src/cli/s3-rights.ts";

const SOURCE = "src/cli/s3-rights.ts";
const EXAMPLE: S3Place = { bucket: "wal", prefix: "prod", cluster: "main" };

export function s3RightsBlocks(): Blocks {
  const rows = Object.entries(S3_RIGHTS).map(
    ([command, rights]) =>
      `| \`${command}\` | ${cell(rights.filter(({ when }) => when === undefined))} | ${optional(rights)} |`,
  );
  const table = ["| command | always | sometimes |", "| --- | --- | --- |", ...rows];
  return {
    roles: { source: SOURCE, content: S3_ROLES.map(roleSection).join("\n").trimEnd() },
    commands: { source: SOURCE, content: table.join("\n") },
  };
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
