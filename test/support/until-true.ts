const POLL_MS = 100;

/** Asks again and again. @throws (rejects) when it is not so in time, and what `condition` rejects with */
export const untilTrue = async (what: string, condition: () => Promise<boolean>, timeoutMs = 30_000): Promise<void> => {
  const deadline = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`waited ${timeoutMs} ms for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
};
