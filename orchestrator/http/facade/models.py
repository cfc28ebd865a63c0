"""`/v1/models`: the agents, by the name that `model` gives."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel

from orchestrator.http.auth import Reader
from orchestrator.http.dependencies import Celeriac, openai_problems

router = APIRouter(prefix="/v1/models", tags=["openai"])

OWNER = "celeriac"


class ModelBody(BaseModel):
    """An agent as OpenAI's model object."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = OWNER


class ModelList(BaseModel):
    """Every known agent."""

    object: Literal["list"] = "list"
    data: list[ModelBody]


@router.get("", responses=openai_problems())
async def list_models(caller: Reader, celeriac: Celeriac) -> ModelList:  # noqa: ARG001
    """List the agents."""
    return ModelList(data=[ModelBody(id=each.name) for each in await celeriac.agents()])


@router.get("/{model}", responses=openai_problems(404))
async def get_model(
    model: Annotated[str, Path(max_length=256)],
    caller: Reader,  # noqa: ARG001
    celeriac: Celeriac,
) -> ModelBody:
    """Return one agent."""
    return ModelBody(id=(await celeriac.agent(model)).name)
