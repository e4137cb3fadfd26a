// Loaded into a server with --import: SIGUSR2 moves its wall clock by TENSORPRESS_TEST_CLOCK_SHIFT_MS, as a wrong time server
// does; monotonic time goes on. Each signal moves it again.

const shiftMs = Number(process.env['TENSORPRESS_TEST_CLOCK_SHIFT_MS'])
let ahead = 0

globalThis.Date = new Proxy(Date, {
  construct: (real, given, newTarget) =>
    Reflect.construct(real, given.length === 0 ? [real.now() + ahead] : given, newTarget),
  get: (real, name) => (name === 'now' ? () => real.now() + ahead : Reflect.get(real, name)),
})

process.on('SIGUSR2', () => {
  ahead += shiftMs
})
