// Who is there, and which page they see.

import { useEffect, useState } from "react";

import { ApiError, onSignedOut, readSession } from "../api/client";
import { live } from "../api/live";
import { forgetAll } from "../api/resource";
import { DriftPage } from "../drift/page";
import { ExperimentsPage } from "../experiments/list";
import { NewExperimentPage } from "../experiments/new";
import { ExperimentPage } from "../experiments/page";
import { FleetPage } from "../fleet/page";
import { ModelPage } from "../models/page";
import { ModelsPage } from "../models/list";
import { RolloutPage } from "../rollouts/page";
import { RolloutsPage } from "../rollouts/list";
import { NewRolloutPage } from "../rollouts/new";
import { to, useRoute, type Route } from "../routing";
import { Frame } from "./frame";
import { SignInPage } from "./sign-in";
import { Empty } from "../parts/notices";
import { Page } from "../parts/page";

type Access = "asking" | "signed-out" | "signed-in";

const ASK_AGAIN_MS = 3_000;

export function App() {
  const [access, setAccess] = useState<Access>("asking");
  const [notice, setNotice] = useState("");

  useEffect(() => {
    onSignedOut(() => {
      setNotice("This session has ended: sign in with a new code.");
      setAccess("signed-out");
    });
  }, []);

  useEffect(() => {
    if (access !== "asking") return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const ask = async () => {
      try {
        await readSession();
        setAccess("signed-in");
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        if (error.status === 401) {
          setAccess("signed-out");
        } else {
          setNotice(error.message);
          timer = setTimeout(() => void ask(), ASK_AGAIN_MS);
        }
      }
    };
    void ask();
    return () => clearTimeout(timer);
  }, [access]);

  useEffect(() => {
    if (access !== "signed-in") return;
    live.start();
    return () => {
      live.stop();
      forgetAll();
    };
  }, [access]);

  if (access === "asking") return <p className="loading alone">{notice || "Loading…"}</p>;
  if (access === "signed-out") {
    return (
      <SignInPage
        notice={notice}
        onSignedIn={() => {
          setNotice("");
          setAccess("signed-in");
        }}
      />
    );
  }
  return (
    <Signed
      onSignedOut={() => {
        setNotice("You are signed out.");
        setAccess("signed-out");
      }}
    />
  );
}

function Signed({ onSignedOut }: { onSignedOut: () => void }) {
  const route = useRoute();
  return (
    <Frame route={route} onSignedOut={onSignedOut}>
      {pageFor(route)}
    </Frame>
  );
}

function pageFor({ parts, query }: Route) {
  const [place = "fleet", name] = parts;
  if (place === "fleet") return <FleetPage open={name} />;
  if (place === "models") return name === undefined ? <ModelsPage /> : <ModelPage key={name} name={name} />;
  if (place === "rollouts") {
    if (name === undefined) return <RolloutsPage />;
    return name === "new" ? (
      <NewRolloutPage model={query.get("model")} version={query.get("version")} />
    ) : (
      <RolloutPage key={name} id={name} />
    );
  }
  if (place === "experiments") {
    if (name === undefined) return <ExperimentsPage />;
    return name === "new" ? <NewExperimentPage /> : <ExperimentPage key={name} id={name} />;
  }
  if (place === "drift") return <DriftPage key={name ?? ""} model={name} />;
  return (
    <Page title="Nothing here">
      <Empty title="There is no such page.">
        Go to the <a href={to("fleet")}>fleet</a>.
      </Empty>
    </Page>
  );
}
