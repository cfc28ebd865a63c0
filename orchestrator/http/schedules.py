"""`/schedules`: tasks that are submitted again and again."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request

from orchestrator.http.answer_forms import check_output_schema
from orchestrator.http.auth import Admin, Reader
from orchestrator.http.dependencies import Celeriac, problems
from orchestrator.http.problem import Problem
from orchestrator.http.roles import check_input
from orchestrator.http.submitter import stamped
from orchestrator.http.task_bodies import ScheduleBody, ScheduleInfo, ScheduleList

router = APIRouter(prefix="/schedules", tags=["schedules"])

ScheduleId = Annotated[str, Path(description="The schedule's id.", max_length=256)]


@router.get("", responses=problems())
async def list_schedules(caller: Reader, celeriac: Celeriac) -> ScheduleList:
    """List the schedules with their next ticks."""
    schedules = await celeriac.schedules(tenant=caller.tenant)
    return ScheduleList(schedules=[ScheduleInfo.of(each) for each in schedules])


@router.put("/{schedule_id}", responses=problems(404))
async def put_schedule(
    schedule_id: ScheduleId,
    body: ScheduleBody,
    request: Request,
    caller: Admin,
    celeriac: Celeriac,
) -> ScheduleInfo:
    """Keep a schedule, over an earlier one of its id."""
    fields = body.task.fields()
    check_input(fields.get("input", {}), request)
    await check_output_schema(celeriac, body.task.agent, body.task.parameters)
    fields["metadata"] = stamped(fields.get("metadata"), caller)
    schedule = await celeriac.schedule(
        schedule_id,
        fields.pop("agent"),
        fields.pop("input", {}),
        cron=body.cron,
        time_zone=body.time_zone,
        missed=body.missed,
        tenant=caller.tenant,
        **fields,
    )
    return ScheduleInfo.of(schedule)


@router.delete("/{schedule_id}", status_code=204, responses=problems(404))
async def delete_schedule(
    schedule_id: ScheduleId, caller: Admin, celeriac: Celeriac
) -> None:
    """End a schedule; its tasks go on."""
    if not await celeriac.unschedule(schedule_id, tenant=caller.tenant):
        raise Problem(404, "schedule_not_found", "there is no schedule of this id")
