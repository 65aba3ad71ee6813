// Sign in with a one-time code.

import { useEffect, useRef, useState, type FormEvent } from "react";

import { ApiError, signIn } from "../api/client";
import { arrive } from "../parts/arrival";
import { Command } from "../parts/notices";
import { Logo } from "./frame";

export function SignInPage({ notice, onSignedIn }: { notice: string; onSignedIn: () => void }) {
  const input = useRef<HTMLInputElement>(null);
  const [code, setCode] = useState("");
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(false);

  useEffect(() => {
    document.title = "Sign in · Edgewise";
    arrive(input.current, true);
  }, []);

  async function submit(event: FormEvent): Promise<void> {
    event.preventDefault();
    if (code.trim().length < 4) {
      setProblem("Type the whole code, as `edgewise hub open` printed it.");
      input.current?.focus();
      return;
    }
    setBusy(true);
    setProblem("");
    try {
      await signIn(code.trim());
      onSignedIn();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      setProblem(error.message);
      setBusy(false);
      input.current?.focus();
    }
  }

  return (
    <main className="sign-in" id="main">
      <form onSubmit={(event) => void submit(event)} noValidate>
        <p className="brand">
          <Logo /> Edgewise
        </p>
        <h1>Sign in</h1>
        <p className="muted">
          Run <Command>edgewise hub open</Command> where the hub runs, and type the code that it prints. A code works
          once.
        </p>
        <label htmlFor="code">One-time code</label>
        <input
          id="code"
          ref={input}
          className="code"
          value={code}
          onChange={(event) => setCode(event.target.value)}
          autoComplete="one-time-code"
          autoCapitalize="characters"
          spellCheck={false}
          maxLength={32}
          aria-describedby="sign-in-problem"
          aria-invalid={problem !== ""}
        />
        <p id="sign-in-problem" className={problem ? "trouble" : "muted"} role="alert" hidden={!problem && !notice}>
          {problem || notice}
        </p>
        <button type="submit" className="button primary" disabled={busy}>
          Sign in
        </button>
      </form>
    </main>
  );
}
