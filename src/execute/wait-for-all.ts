// Several reads or writes at once, on memory that somebody else gets afterwards. Entry: waitForAll.

/** Like Promise.all, but a failure is thrown only when nothing is under way any more: mapped memory may then be unmapped. */
export async function waitForAll(started: readonly (Promise<unknown> | undefined)[]): Promise<void> {
  try {
    await Promise.all(started)
  } catch (error) {
    await Promise.allSettled(started)
    throw error
  }
}
