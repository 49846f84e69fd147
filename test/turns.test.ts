/** Turns: never more than so many at once, in the order in which they asked. */
import { expect, test } from "vitest";
import { Turns } from "../src/turns.ts";

const never = new AbortController().signal;

test("the third waits until one of two gives its turn back, and a turn is given back once", async () => {
  const turns = new Turns(2);
  const order: string[] = [];
  const first = await turns.take(never);
  await turns.take(never);
  const third = turns.take(never).then((turn) => (order.push("third"), turn));
  const fourth = turns.take(never).then((turn) => (order.push("fourth"), turn));
  await Promise.resolve();
  expect(order).toEqual([]);
  first?.();
  first?.();
  const turn = await third;
  await Promise.resolve();
  expect(order).toEqual(["third"]);
  turn?.();
  await fourth;
  expect(order).toEqual(["third", "fourth"]);
});

test("a waiter that is stopped leaves the queue, and takes no turn", async () => {
  const turns = new Turns(1);
  const stop = new AbortController();
  const first = await turns.take(never);
  const second = turns.take(stop.signal);
  const third = turns.take(never);
  stop.abort();
  expect(await second).toBeUndefined();
  expect(await turns.take(stop.signal)).toBeUndefined();
  first?.();
  expect(await third).toBeTypeOf("function");
});

test("a higher limit lets those in who wait; a lower one waits for those who are in", async () => {
  const turns = new Turns(1);
  const first = await turns.take(never);
  const second = turns.take(never);
  turns.resize(2);
  const turn = await second;
  turns.resize(1);
  let third: unknown;
  void turns.take(never).then((got) => (third = got));
  first?.();
  await Promise.resolve();
  await Promise.resolve();
  expect(third).toBeUndefined();
  turn?.();
  await Promise.resolve();
  await Promise.resolve();
  expect(third).toBeTypeOf("function");
});
