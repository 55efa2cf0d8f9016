"""The loop that all attacks share: a batch whose places are filled again as images fall."""

from __future__ import annotations

import abc
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from robustcls._progress import tqdm
from robustcls._validation import InputError
from robustcls.attacks.base import Attack
from robustcls.attacks.checkpoint import Checkpoint
from robustcls.attacks.draws import derive
from robustcls.attacks.task import Batch, Options, Slots, State, Task
from robustcls.classifiers.classifier import Classifier


def _no_slots() -> Slots:
    return Slots(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64), {})


class Loop:
    """One attack on the images of a task that still stand.

    State is kept for the images under attack alone, so memory does not grow with the task.
    """

    def __init__(
        self, attack: LoopedAttack, classifier: Classifier, task: Task, options: Options
    ) -> None:
        self.attack, self.classifier, self.task, self.options = attack, classifier, task, options
        self.step = attack.make_step(classifier)
        rivals = task.rivals.shape[1] if attack.rivals(classifier.num_classes) else 0
        self.rivals = min(rivals, attack.rivals(classifier.num_classes))
        self.runs = attack.restart_count * max(1, self.rivals)
        self.watches = attack.repeats and classifier.repeats and options.active_set
        self.spared = 0
        self.waiting = deque((int(index), 0) for index in np.flatnonzero(~task.success))
        self.active = _no_slots()
        # The points after a run's last step need no gradient: they are checked apart, in whole
        # batches.
        self.last = _no_slots()
        self.checkpoint: Checkpoint | None = None
        if options.checkpoint is not None:
            self.checkpoint = Checkpoint(options.checkpoint, attack, classifier, task)
            self._restore()

    def run(self) -> None:
        bar = tqdm(
            total=len(self.task.images),
            initial=len(self.task.images) - self._left(),
            desc=self.attack.name,
            unit="image",
            # Work on an image counts for the share of its runs' steps, whether it falls or not.
            bar_format="{l_bar}{bar}| {n:.0f}/{total_fmt} [{elapsed}<{remaining}{postfix}]",
            disable=not self.options.progress,
        )
        try:
            while self.waiting or len(self.active) or len(self.last):
                self._advance()
                if self.options.progress:
                    bar.n = len(self.task.images) - self._left()
                    figures = {"robust": f"{self.task.robust_accuracy:.3f}"}
                    if self.spared:
                        figures["spared"] = f"{self.spared:,} steps"
                    bar.set_postfix(figures, refresh=False)
                    bar.update(0)
                if self.checkpoint and self.checkpoint.due:
                    self._save()
        except InputError:
            # A model that fails in the middle leaves the state as it was before the step.
            if self.checkpoint:
                self._save()
            raise
        finally:
            bar.close()
        if self.checkpoint:
            self._save()

    def _left(self) -> float:
        """Returns the work that is left, in images that go through all of their runs."""
        begun = float(sum(run for _, run in self.waiting))
        count = len(self.waiting)
        for slots in (self.active, self.last):
            begun += float((slots.run + slots.step / self.attack.step_count).sum())
            count += len(slots)
        return count - begun / self.runs

    def _advance(self) -> None:
        self._admit()
        if len(self.active):
            self._take_step()
        size = self.options.batch_size
        if len(self.last) >= size or not (self.waiting or len(self.active)):
            self._check_last()

    def _admit(self) -> None:
        free = min(self.options.batch_size - len(self.active), len(self.waiting))
        if free <= 0:
            return
        index, run = np.array([self.waiting.popleft() for _ in range(free)], np.int64).T
        slots = Slots(index, run, np.zeros(free, np.int64), {})
        slots.state = self.attack.start(self._batch(slots))
        if self.watches:
            slots.earlier = slots.state
        self.active = self.active.join(slots)

    def _batch(self, slots: Slots) -> Batch:
        task, index = self.task, slots.index
        targets = task.labels[index]
        if self.rivals:
            targets = task.rivals[index, slots.run // self.attack.restart_count]
        keys = derive(task.keys[index], self.attack.seed, slots.run)
        images = task.images[index]
        return Batch(images, task.labels[index], targets, keys, slots.run, slots.step)

    def _take_step(self) -> None:
        batch, slots = self._batch(self.active), self.active
        points, logits, state = self.step(batch, slots.state)
        self.task.passes[slots.index] += self.attack.passes * self.classifier.samples
        fooled = self.task.record(slots.index, points, logits, self._legal(slots, points))
        slots = Slots(slots.index, slots.run, slots.step + 1, state, slots.earlier)
        if self.options.active_set and fooled.any():
            slots = slots.select(~fooled)
        if self.watches:
            slots = self._end_cycles(slots)
        done = slots.step == self.attack.step_count
        if done.any():
            finished, slots = slots.select(done), slots.select(~done)
            if self.attack.moves_last:
                finished.state, finished.earlier = {"current": finished.state["current"]}, {}
                self.last = self.last.join(finished)
            else:
                self._end_runs(finished)
        self.active = slots

    def _end_cycles(self, slots: Slots) -> Slots:
        """Ends the runs that are back where they were: all that follows has been seen."""
        back = np.ones(len(slots), bool)
        for name, value in slots.state.items():
            back &= (value == slots.earlier[name]).all(axis=tuple(range(1, value.ndim)))
        back &= slots.step < self.attack.step_count
        if back.any():
            ended, slots = slots.select(back), slots.select(~back)
            self.spared += int((self.attack.step_count - ended.step).sum())
            self._end_runs(ended)
        now = np.isin(slots.step, _KEPT)
        slots.earlier = {
            name: np.where(now.reshape(-1, *[1] * (value.ndim - 1)), value, slots.earlier[name])
            for name, value in slots.state.items()
        }
        return slots

    def _check_last(self) -> None:
        size = self.options.batch_size
        slots = self.last.select(slice(size))
        if not len(slots):
            return
        points = slots.state["current"]
        logits = self.classifier.predict(points)
        self.task.passes[slots.index] += self.classifier.samples
        self.last = self.last.select(slice(size, None))
        fooled = self.task.record(slots.index, points, logits, self._legal(slots, points))
        self._end_runs(slots.select(~fooled) if self.options.active_set else slots)

    def _end_runs(self, slots: Slots) -> None:
        for index, run in zip(slots.index.tolist(), slots.run.tolist(), strict=True):
            if run + 1 < self.runs:
                self.waiting.append((index, run + 1))

    def _legal(self, slots: Slots, points: np.ndarray) -> np.ndarray:
        if self.attack.stays_inside:
            return np.ones(len(points), bool)
        offsets = (points - self.task.images[slots.index]).reshape(len(points), -1)
        order = float(self.attack.norm)
        return np.linalg.norm(offsets, order, axis=1) <= self.attack.epsilon

    def _save(self) -> None:
        if self.checkpoint is None:
            return
        arrays = {"waiting": np.array(self.waiting, np.int64).reshape(-1, 2)}
        for name in ("active", "last"):
            slots = getattr(self, name)
            arrays |= {f"{name}.{key}": getattr(slots, key) for key in ("index", "run", "step")}
            arrays |= {f"{name}.state.{key}": value for key, value in slots.state.items()}
            arrays |= {f"{name}.earlier.{key}": value for key, value in slots.earlier.items()}
        self.checkpoint.save(self.task, arrays)

    def _restore(self) -> None:
        arrays = self.checkpoint.load(self.task) if self.checkpoint else None
        if arrays is None:
            return
        self.waiting = deque((index, run) for index, run in arrays["waiting"].tolist())
        for name in ("active", "last"):
            state, earlier = (
                {
                    key.removeprefix(prefix): value
                    for key, value in arrays.items()
                    if key.startswith(prefix)
                }
                for prefix in (f"{name}.state.", f"{name}.earlier.")
            )
            if not self.watches or name == "last":
                earlier = {}
            elif not earlier:  # of an attack that was stopped without watching
                earlier = state
            index, run, step = (arrays[f"{name}.{key}"] for key in ("index", "run", "step"))
            setattr(self, name, Slots(index, run, step, state, earlier))
        # A smaller batch than before begins the runs of the others again.
        size = self.options.batch_size
        surplus = self.active.select(slice(size, None))
        self.waiting.extend(zip(surplus.index.tolist(), surplus.run.tolist(), strict=True))
        self.active = self.active.select(slice(size))


# Steps whose state is kept, each about a quarter later than the one before, up to many millions. A
# cycle is found at most a quarter after it has begun, and one turn, unless it is longer than that
# quarter.
_KEPT = np.unique(np.ceil(1.25 ** np.arange(75)).astype(np.int64))
Step = Callable[[Batch, State], tuple[np.ndarray, np.ndarray, State]]


@dataclass(frozen=True, kw_only=True)
class LoopedAttack(Attack, abstract=True):
    """An attack that says how a run begins and what a step does, and leaves the rest to `Loop`.

    An image gets a number of runs (restarts, classes aimed at) of a number of steps, until it
    falls.

    Args:
        epsilon: radius of the ball; above 1 only for norm "2" (float in (0, 1], default 8/255).
        norm: of the ball ("inf" or "2", default "inf").
        seed: seed of everything random (int >= 0, default 0).
    """

    @property
    @abc.abstractmethod
    def step_count(self) -> int:
        """Steps of a run."""

    @property
    def restart_count(self) -> int:
        """Runs for each class aimed at."""
        return 1

    @property
    def passes(self) -> int:
        """How often a step leads an image through the model, forwards and backwards."""
        return 1

    @property
    def moves_last(self) -> bool:
        """Whether a step ends by moving to a point that the model has yet to see."""
        return True

    @property
    def repeats(self) -> bool:
        """Whether a step follows from the state alone: then a state that comes again ends the run.

        Nothing can be found after it that has not been found before, so this changes no result.
        """
        return False

    @property
    def stays_inside(self) -> bool:
        """Whether all points lie in the ball."""
        return True

    @abc.abstractmethod
    def start(self, batch: Batch) -> State:
        """Returns the state a run begins with: values [n, ...], NumPy.

        Its entry `current`, float32 [n, H, W, C], is the next point to show to the model.

        Args:
            batch: the images and what belongs to them.
        """

    @abc.abstractmethod
    def make_step(self, classifier: Classifier) -> Step:
        """Returns the step: (batch, state) to (points, logits, next state).

        `logits`, float32 [n, classes], are the model's of `points`, float32 [n, H, W, C].

        Args:
            classifier: the model.
        """

    def run(self, classifier: Classifier, task: Task, options: Options) -> None:
        Loop(self, classifier, task, options).run()
        if classifier.samples > 1:
            task.ask_again(classifier, options.batch_size)
