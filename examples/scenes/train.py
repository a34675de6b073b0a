#!/usr/bin/env python3
"""Trains both demo models at once and keeps the best of each as a checkpoint folder.

    train.py --work DIR [--steps N]     start, or go on where DIR's checkpoints stand
    train.py --work DIR --method a --from FOLDER --at STEP
                                        go on with a checkpoint folder's weights as if they had STEP steps

Each model has a process with one thread of its own. The budget is a number of steps and nothing else
ends a run, neither the time it takes nor how good a model already is: both models see the same
pictures and the same questions, in the same order and number, so that they can be compared. The
learning rate and the weight of the helper loss follow the share of the steps that are done.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

SETTINGS = {  # one thread each; passive waiting; memory kept instead of returned to the system
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive",
    "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "8000000000", "MALLOC_TOP_PAD_": "67108864",
}
HERE = pathlib.Path(__file__).resolve().parent


def arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=pathlib.Path, required=True, help="checkpoints and logs")
    parser.add_argument("--out", type=pathlib.Path, default=HERE.parent / "models")
    parser.add_argument("--method", choices=["a", "b"], help="only this model")
    parser.add_argument("--steps", type=int, default=6000, help="budget of each model")
    parser.add_argument("--seed", type=int, default=0, help="0-999")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--questions", type=int, default=5, help="per picture, besides the caption")
    parser.add_argument("--hard", type=float, default=0.7, help="share of the steps from which hard questions are drawn "
                                                                "more often, and one more for each picture")
    parser.add_argument("--from", dest="start", type=pathlib.Path, help="checkpoint folder to go on with")
    parser.add_argument("--at", type=int, default=0, help="steps that folder has had")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--every", type=int, default=500, help="steps from validation to validation")
    parser.add_argument("--validate", type=int, default=300, help="scenes of a validation")
    args = parser.parse_args()
    if args.start and not args.method:
        parser.error("--from is one model's folder: it needs --method")
    return args


def both():
    command = [sys.executable, __file__, *sys.argv[1:], "--method"]
    running = [subprocess.Popen([*command, m], env={**SETTINGS, **os.environ}) for m in "ab"]
    sys.exit(max(abs(p.wait()) for p in running))


def helper_loss(guess, b):
    """The linear layer's guesses about the object under each patch: [B, 64, 19]."""
    from torch.nn import functional as F
    there = b.patches[..., 0] >= 0
    colour, shape, size, centre, presence = guess.split([8, 6, 2, 2, 1], -1)
    kinds = sum(F.cross_entropy(g[there], b.patches[..., i][there])
                for i, g in enumerate((colour, shape, size)))
    return (kinds + 4 * F.l1_loss(centre[there], b.centres[there])
            + F.binary_cross_entropy_with_logits(presence[..., 0], there.float()))


class Training:
    def __init__(self, args):
        import torch
        import data, evaluate, export, model, scenes, tokenizer
        self.torch, self.data, self.evaluate, self.export = torch, data, evaluate, export
        assert args.seed in scenes.TRAINING_SEEDS
        torch.set_num_threads(1)
        torch.set_flush_denormal(True)
        self.args, self.method = args, args.method
        self.validation = scenes.VALIDATION_SEEDS[0]
        args.work.mkdir(parents=True, exist_ok=True)
        self.log = open(args.work / f"{self.method}.log", "a", buffering=1)
        self.tokenizer = tokenizer.Tokenizer(tokenizer.learn(self.corpus(scenes)))
        self.model = export.KINDS[self.method](len(self.tokenizer.ids))
        model.initialise(self.model, torch.Generator().manual_seed(args.seed))
        torch.manual_seed(args.seed)
        self.helper = torch.nn.Linear(model.WIDTH, 19)
        parameters = [*self.model.parameters(), *self.helper.parameters()]
        self.parameters = [p for p in parameters if p.requires_grad]
        self.optimiser = torch.optim.AdamW(
            [{"params": [p for p in self.parameters if p.dim() > 1], "weight_decay": 0.05},
             {"params": [p for p in self.parameters if p.dim() == 1], "weight_decay": 0.0}],
            lr=args.lr, betas=(0.9, 0.98))
        self.step, self.spent, self.best = args.at, 0.0, -1.0
        if args.start:
            self.model.load_state_dict(export.read(args.start, self.tokenizer)[1].state_dict())
        self.saved = args.work / f"{self.method}.pt"
        if self.saved.exists():
            self.resume()

    def corpus(self, scenes):
        """The texts of both methods, so that both get the same tokens."""
        for i in range(3000):
            for _, question, answer in self.data.texts(scenes.sample(0, i)):
                yield f"USER: <image>\n{question} ASSISTANT: {answer}".replace("<image>", "")
                yield question

    def say(self, text):
        line = f"{time.strftime('%H:%M:%S')} {self.method} {text}"
        print(line, flush=True)
        self.log.write(line + "\n")

    def resume(self):
        state = self.torch.load(self.saved)
        self.model.load_state_dict(state["model"])
        self.helper.load_state_dict(state["helper"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.spent, self.best = state["counts"]
        self.say(f"resumed at step {self.step}, {self.spent / 3600:.2f} core hours used")

    def save(self):
        new = self.saved.with_suffix(".new")
        self.torch.save({"model": self.model.state_dict(), "helper": self.helper.state_dict(),
                         "optimiser": self.optimiser.state_dict(),
                         "counts": (self.step, self.spent, self.best)}, new)
        os.replace(new, self.saved)

    @property
    def progress(self):
        return self.step / self.args.steps

    def rate(self):
        """Rises over 300 steps from the start, stays until half of the steps are done, then falls to zero."""
        fall = min(1.0, max(0.005, 2 - 2 * self.progress))
        return self.args.lr * min(1.0, (self.step - self.args.at + 1) / 300) * fall

    def learn(self):
        """One step; returns the losses of the texts and of the helper."""
        size, F = self.args.batch, self.torch.nn.functional
        hard = self.progress >= self.args.hard
        _, b = self.data.batch(self.method, self.tokenizer, self.args.seed,
                               range(self.step * size, (self.step + 1) * size),
                               self.args.questions + hard, self.data.OFTEN if hard else None)
        seen = self.evaluate.features(self.model, b.pixels)
        logits = self.evaluate.logits(self.method, self.model, self.tokenizer, seen, b)
        said = b.targets != self.data.IGNORE
        each = F.cross_entropy(logits, b.targets[said], reduction="none")
        loss = (each * b.weights[said]).sum() / b.weights[said].sum()
        helper = helper_loss(self.helper(seen[:, 1:]), b)
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate()
        self.optimiser.zero_grad(set_to_none=True)
        (loss + max(0.1, 0.5 - self.progress) * helper).backward()
        self.torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimiser.step()
        self.step += 1
        return self.torch.stack([loss.detach(), helper.detach()])

    def validate(self):
        """Measures the rounded weights, exports them if they are the best so far."""
        exact = {k: v.clone() for k, v in self.model.state_dict().items()}
        self.model.load_state_dict(self.export.rounded(self.model))
        result = self.evaluate.evaluate(self.method, self.model, self.tokenizer, self.validation,
                                        self.args.validate)
        worst = min(v for k, v in result.items() if k not in ("caption", "answers"))
        score = (result["caption"] + result["answers"] + worst) / 3
        self.say(f"step {self.step} validation {score:.4f} "
                 + " ".join(f"{k} {100 * v:.1f}" for k, v in result.items()))
        if score >= self.best:   # a later one was trained longer
            self.best = score
            facts = {"seed": self.args.seed, "images": self.step * self.args.batch,
                     "steps": self.step, "budget": self.args.steps, "batch": self.args.batch,
                     "count": self.args.validate, "questions": self.args.questions,
                     "late": f"{100 * self.args.hard:.0f} %",
                     "spent": f"{self.spent / 3600:.2f}", "lr": self.args.lr,
                     "validation": self.validation}
            self.export.write(self.args.out / f"scenes-{self.method}", self.method, self.model,
                              self.tokenizer, result, facts)
        self.model.load_state_dict(exact)

    def run(self):
        size = sum(p.numel() for p in self.model.parameters())
        self.say(f"{size} parameters, {len(self.tokenizer.ids)} tokens, "
                 f"budget {self.args.steps} steps, {json.dumps(vars(self.args), default=str)}")
        recent, since = [], time.time()
        while self.step < self.args.steps:
            started = time.process_time()
            recent.append(self.learn())
            self.spent += time.process_time() - started
            if self.step % 50 == 0:
                now = time.time()
                loss, helper = self.torch.stack(recent).mean(0).tolist()
                speed = len(recent) * self.args.batch / (now - since)
                self.say(f"step {self.step} loss {loss:.4f} helper {helper:.3f} "
                         f"lr {self.rate():.1e} {speed:.1f} images/s {100 * self.progress:.1f} %")
                recent, since = [], now
            if self.step % self.args.every == 0 or self.step == self.args.steps:
                self.validate()
                self.save()
                since = time.time()
        self.say(f"done, best {self.best:.4f}")


if __name__ == "__main__":
    options = arguments()
    if options.method:
        for name, value in SETTINGS.items():   # read when the libraries start
            if name not in os.environ:
                os.execve(sys.executable, [sys.executable, *sys.argv], {**SETTINGS, **os.environ})
        Training(options).run()
    else:
        both()
