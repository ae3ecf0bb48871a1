// Long work in slices: pieces are done between frames, as many as fit into some milliseconds, so that no stroke waits
// for them. What is started anew takes the place of what was going on.

export function slices(milliseconds = 10) {
  let latest = 0;
  return {
    start(count, piece, tell) {
      // piece(0), ..., piece(count - 1); after each slice tell(how many are done)
      const mine = ++latest;
      let done = 0;
      const slice = () => {
        if (mine !== latest) return;
        const end = performance.now() + milliseconds;
        do piece(done++);
        while (done < count && performance.now() < end);
        tell(done);
        if (done < count) requestAnimationFrame(slice);
      };
      if (count) requestAnimationFrame(slice);
    },
    stop() {
      latest++;
    },
  };
}
