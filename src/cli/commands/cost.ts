/** `seawall cost`: estimates what an archive costs in a month, from a WAL rate and a table of prices. */
import { humanBytes } from "../../daemon/status/human.ts";
import { EXIT } from "../../error-kinds.ts";
import { SeawallError } from "../../errors.ts";
import { type CommandContext, printResult } from "../context.ts";
import { type CostLine, monthlyCost } from "../cost.ts";
import { counted } from "../../plural.ts";
import { columns } from "../views/layout.ts";

const WINDOW_MS = 14 * 86_400_000;

export async function run(context: CommandContext): Promise<number> {
  const { settings } = context;
  const { walRateBytes, compressionRatio } = settings;
  if (walRateBytes === undefined) throw new SeawallError("internal", "no WAL rate");
  if (compressionRatio === 0) {
    throw new SeawallError("usage", "--compression-ratio 0 would store nothing at all", {
      hint: "Write 1 for WAL that does not compress.",
    });
  }
  const lines = monthlyCost({ ...settings, walRateBytes, recoveryWindowMs: settings.recoveryWindowMs ?? WINDOW_MS });
  const total = lines.reduce((sum, { price }) => sum + price, 0);
  await printResult(context, { month: lines, total }, costText(lines, { total, width: context.io.width }));
  return EXIT.done;
}

function costText(
  lines: readonly CostLine[],
  { total, width }: { readonly total: number; readonly width: number | undefined },
): string {
  const rows = lines.map(({ what, amount, unit, price }) => [
    what,
    unit === "bytes" ? humanBytes(amount) : counted(Math.round(amount), "request"),
    price.toFixed(2),
  ]);
  return columns([["A MONTH", "", "PRICE"], ...rows, ["total", "", total.toFixed(2)]], width).join("\n");
}
